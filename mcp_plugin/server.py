"""The MCP server of one session: the SDK's, with our tools, errors and eras. What a tool does is in tools/."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from typing import Any

import trio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_loop
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
)

from mcp_plugin.arguments import read
from mcp_plugin.call import Asked, Call
from mcp_plugin.greeting import INSTRUCTIONS, NAME, TITLE
from mcp_plugin.host import Host
from mcp_plugin.problems import Document, Problem, told
from mcp_plugin.session import Session
from mcp_plugin.texts import fitted
from mcp_plugin.tools import TOOLS
from mcp_plugin.transport import Wire
from peer import VERSION
from peer.dispatches.text import line
from peer.protocol.errors import DispatchError, NotFound, RateLimited

MAX_CALLS = 32
"""Calls of one session at a time; each may hold a live view of the node's, which has 64."""


async def run(session: Session, host: Host) -> None:
    """Serve a session until its host leaves.

    The handshake era unless `$DISPATCH_MCP_ERA` is `auto`: a host that asks for the newer one first (`server/discover`)
    is told that it is not served (-32601) and shakes hands. In the older era a question to the person needs no second
    call, and one call can ask at any number of gates.
    """
    server = made(session)
    async with Wire(host).streams() as (heard, spoken):
        if os.environ.get("DISPATCH_MCP_ERA", "") == "auto":
            await server.run(heard, spoken, server.create_initialization_options())
        else:
            await serve_loop(
                server,
                heard,
                spoken,
                lifespan_state={},
                init_options=server.create_initialization_options(),
            )


def made(session: Session) -> Server[Any]:
    """Return the SDK's server with our tools."""
    limit = trio.CapacityLimiter(MAX_CALLS)

    async def list_tools(_context: Any, _params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[entry.described() for entry in TOOLS.values()])

    async def call_tool(
        context: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        token = object()
        try:
            limit.acquire_on_behalf_of_nowait(token)
        except trio.WouldBlock:
            return failed(told(RateLimited(f"{MAX_CALLS} calls are under way", fix="wait for one of them")))
        try:
            return await answered(context, params, session)
        finally:
            limit.release_on_behalf_of(token)

    return Server(
        NAME,
        version=VERSION,
        title=TITLE,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def answered(
    context: ServerRequestContext[Any, Any], params: CallToolRequestParams, session: Session
) -> CallToolResult | InputRequiredResult:
    """Run one call; whatever goes wrong becomes its clear error. A cancelled call is only left, and undoes nothing."""
    call: Call | None = None
    try:
        entry = TOOLS.get(params.name)
        if entry is None:
            raise NotFound(f"there is no tool {line(params.name, limit=60)!r}", fix=f"the tools are {', '.join(TOOLS)}")
        arguments = read(entry.arguments, params.arguments, entry.name)
        call = Call(context, session, params)
        document = await entry.run(call, arguments)
        name = line(str(document.get("dispatch_id") or entry.name))
        return succeeded(await trio.to_thread.run_sync(fitted, document, session.folder, name))
    except Asked as asked:
        assert call is not None
        return call.end_with(asked)
    except Exception as error:
        document = told(error)
        if document["code"] == 500 and not isinstance(error, DispatchError | Problem):
            with suppress(OSError, ValueError):  # nobody reads standard error any more
                traceback.print_exception(error, file=sys.stderr)
        return failed(document)


def succeeded(document: Document) -> CallToolResult:
    """Return a result as structured content, and as its JSON for hosts that read text only."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=document)


def failed(document: Document) -> CallToolResult:
    """Return an error: hosts show the text of one, and programs read {code, message, fix}."""
    text = f"error {document['code']}: {document['message']}"
    if document["fix"]:
        text += f"\nfix: {document['fix']}"
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=document, is_error=True)
