"""Starting and ending the granted MCP servers of one run. The protocol with one of them is server.py's.

They are the person's own programs with the person's own credentials, so they run on the person's machine as they always
do. They do not see our folders (`Confinement.spawn_on_host`), and they end with the run.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from sandbox import frames
from sandbox.confinement import Confinement
from sandbox.errors import SandboxError
from sandbox.mcp.bridge import ConnectedServer, McpBridge
from sandbox.mcp.marker import MARKER

# One underscore at most between other characters: else `mcp__a__b__c` would have two readings.
_SERVER_NAME: Final = re.compile(r"[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*", re.ASCII)


@asynccontextmanager
async def opened(
    servers: Sequence[frames.McpServer], *, confinement: Confinement, refused: str, hidden: Sequence[Path]
) -> AsyncIterator[McpBridge]:
    """Start `servers`, all at once, and end them on leaving.

    `refused`: a pattern of tool names, a server with such a tool is not used ("" for none); `hidden`: folders they may
    not see. SandboxError 503, with the end of its error output, for a server that does not start; 403 for a refused
    one.
    """
    if not servers:
        yield McpBridge()
        return
    for server in servers:
        if not _SERVER_NAME.fullmatch(server.name):
            raise SandboxError("the name of an MCP server has characters that tool names cannot have", code=422)
    # Loading the protocol's library takes longer than everything else before a run together.
    await trio.to_thread.run_sync(importlib.import_module, "sandbox.mcp.server")
    from sandbox.mcp.server import ServerConnection

    spawn = partial(confinement.spawn_on_host, hidden=hidden, marker=MARKER)
    connections = {server.name: ServerConnection(server, spawn) for server in servers}
    async with trio.open_nursery() as lives:
        async with trio.open_nursery() as starting:
            for connection in connections.values():
                starting.start_soon(lives.start, connection.run)
        for connection in connections.values():
            _check(connection, refused)
        yield McpBridge(servers, connections)
        lives.cancel_scope.cancel()


def _check(server: ConnectedServer, refused: str) -> None:
    if refused and any(re.search(refused, tool) for tool in server.listed):
        raise SandboxError(
            f"the MCP server {server.name} offers dispatch's own tools, and a run cannot dispatch onward",
            fix="remove it from the edge: `dispatch trust edit … --mcp-servers`",
            code=403,
        )
