"""The granted MCP servers of one run: started outside the sandbox, their tools offered, each call forwarded once it
has passed the gate. Speaking with a server is mcp_link.py's; deciding about calls is the gate's.

The servers are the person's own programs with the person's own credentials, so they run on the person's machine as
they always do. Of ours they see nothing (`confinement.spawn_beside`), and they die with the run.

A call is forwarded for a ticket only, and `admit` makes one ticket for one call that the gate allowed. So it does not
matter what the agent program inside does with its end of the line: a message that no ruling stands behind gets no
further than here.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from sandbox import frames
from sandbox.errors import SandboxError

if TYPE_CHECKING:
    from mcp_types import CallToolResult

PREFIX: Final = "mcp__"
UNGATED: Final = "Denied: this call did not pass the gate."
_SERVER_NAME: Final = re.compile(r"[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*", re.ASCII)
# One underscore at most between other characters: else `mcp__a__b__c` would have two readings.


@dataclass(frozen=True)
class Tool:
    """What a server says of one of its tools. `pin`: hex SHA-256 of all of it that a model is shown."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    pin: str


@dataclass(frozen=True)
class Reply:
    """What a call came back with: for a trace, and as the protocol has it (None when no server was reached)."""

    ok: bool
    text: str
    result: CallToolResult | None = None


class Link(Protocol):
    """A started server: the tools it offers, the names of all it listed, and why some are left out."""

    name: str
    tools: Sequence[Tool]
    listed: Sequence[str]
    left_out: Sequence[str]

    async def call(self, tool: str, arguments: dict[str, Any]) -> Reply:
        """Raises nothing: what goes wrong is the reply."""


class McpBridge:
    """The servers of one run. `tools`: every offered tool by its full name, `mcp__server__tool`.

    `changed`: full name → pin of those that are new or changed since the edge pinned them. `first_listed`: pins of
    servers that the edge has none of yet. `left_out`: tools that cannot be offered, with the reason, for the trace.
    """

    def __init__(self, servers: Sequence[frames.McpServer] = (), links: Mapping[str, Link] | None = None) -> None:
        self._links = dict(links or {})
        self._tickets: Counter[tuple[str, str]] = Counter()
        self.tools = {full_name(name, tool.name): tool for name, link in self._links.items() for tool in link.tools}
        self.changed: dict[str, str] = {}
        self.first_listed: dict[str, dict[str, str]] = {}
        self.left_out = [f"{name}: {reason}" for name, link in self._links.items() for reason in link.left_out]
        for server in servers:
            listed = {tool.name: tool.pin for tool in self._links[server.name].tools}
            if server.tools is None:
                self.first_listed[server.name] = listed
                continue
            for tool, pin in listed.items():
                if server.tools.get(tool) != pin:
                    self.changed[full_name(server.name, tool)] = pin

    @property
    def servers(self) -> Mapping[str, Sequence[Tool]]:
        """Each server with the tools that it offers."""
        return {name: link.tools for name, link in self._links.items()}

    def admit(self, tool: str, arguments: Mapping[str, Any]) -> None:
        """The gate allowed this call, once. `tool`: the full name; of no meaning for one that is no server's."""
        if tool in self.tools:
            self._tickets[tool, _spelled(arguments)] += 1

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Reply:
        """Forward one call that was admitted. `tool`: the full name. Raises nothing but a cancellation."""
        ticket = (tool, _spelled(arguments))
        if self._tickets[ticket] <= 0:
            return Reply(False, UNGATED)
        self._tickets[ticket] -= 1
        _, server, name = tool.split("__", 2)
        return await self._links[server].call(name, dict(arguments))


def full_name(server: str, tool: str) -> str:
    """The name under which the gate knows a server's tool."""
    return f"{PREFIX}{server}__{tool}"


@asynccontextmanager
async def opened(
    servers: Sequence[frames.McpServer], *, refused: str, hidden: Sequence[Path]
) -> AsyncIterator[McpBridge]:
    """Start `servers`, all at once, and end them on leaving. `refused`: a pattern of tool names, a server with such a
    tool is not used ("" for none); `hidden`: folders they may not see.

    SandboxError 503 with its last words for a server that does not start, 403 for a refused one.
    """
    if not servers:
        yield McpBridge()
        return
    for server in servers:
        if not _SERVER_NAME.fullmatch(server.name):
            raise SandboxError("the name of an MCP server has characters that tool names cannot have", code=422)
    # The protocol's library takes longer to load than everything else before a run together.
    mcp_link = await trio.to_thread.run_sync(_loaded)
    links = {server.name: mcp_link.ServerLink(server, hidden) for server in servers}
    async with trio.open_nursery() as lives:
        async with trio.open_nursery() as starting:
            for link in links.values():
                starting.start_soon(lives.start, link.live)
        for link in links.values():
            _check(link, refused)
        yield McpBridge(servers, links)
        lives.cancel_scope.cancel()


def _loaded() -> Any:
    from sandbox import mcp_link

    return mcp_link


def _check(link: Link, refused: str) -> None:
    if refused and any(re.search(refused, tool) for tool in link.listed):
        raise SandboxError(
            f"the MCP server {link.name} is dispatch itself, by its tools: a run never dispatches onward",
            fix="take it out of the edge: `dispatch trust edit … --mcp-servers`",
            code=403,
        )


def _spelled(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True)
