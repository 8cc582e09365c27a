"""The MCP server of one session: the SDK's, with our tools, errors and eras. What a tool does is in tools/."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress

import trio
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

from mcp_plugin.call import Call, Context, InputRequired
from mcp_plugin.error_documents import DetailedError, error_document
from mcp_plugin.handshake import INSTRUCTIONS, NAME, TITLE
from mcp_plugin.host import Host
from mcp_plugin.results import fitted
from mcp_plugin.session import Session
from mcp_plugin.tools import TOOLS
from mcp_plugin.transport import StdioTransport
from peer import VERSION
from peer.client.blocking import Document
from peer.dispatches.text import line
from peer.protocol.errors import DispatchError, NotFound, RateLimited

STRUCTURED_READERS = ("claude-code", "codex-mcp-client")
"""Hosts, by what they call themselves, that show their models the structured content and not the text beside it."""
MAX_CALLS = 32
"""Concurrent calls of one session. Each may hold a live view of the node, which allows 64."""


async def run(session: Session, host: Host) -> None:
    """Serve a session until its host closes.

    In the handshake era unless `$DISPATCH_MCP_ERA` is `auto`: a host that tries the newer era first (`server/discover`)
    gets -32601 and falls back to the handshake. There a question to the person needs no second call, so that one call
    can ask at any number of gates.
    """
    server = build(session)
    async with StdioTransport(host).streams() as (received, sent):
        if os.environ.get("DISPATCH_MCP_ERA", "") == "auto":
            await server.run(received, sent, server.create_initialization_options())
        else:
            await serve_loop(
                server,
                received,
                sent,
                lifespan_state={},
                init_options=server.create_initialization_options(),
            )


def build(session: Session) -> Server[dict[str, object]]:
    """Return the SDK's server with our tools."""
    limit = trio.CapacityLimiter(MAX_CALLS)

    async def list_tools(_context: Context, _params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[entry.described() for entry in TOOLS.values()])

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult | InputRequiredResult:
        token = object()
        try:
            limit.acquire_on_behalf_of_nowait(token)
        except trio.WouldBlock:
            error = RateLimited(f"{MAX_CALLS} tool calls are already running", fix="wait until one of them ends")
            return failed(error_document(error))
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
    context: Context, params: CallToolRequestParams, session: Session
) -> CallToolResult | InputRequiredResult:
    """Run one call; an exception becomes its error result. Cancelling a call stops it and undoes nothing."""
    call: Call | None = None
    try:
        entry = TOOLS.get(params.name)
        if entry is None:
            raise NotFound(f"there is no tool {line(params.name, limit=60)!r}", fix=f"the tools are {', '.join(TOOLS)}")
        arguments = entry.read(params.arguments)
        call = Call(context, session, params)
        document = await entry.run(call, arguments)
        name = line(str(document.get("dispatch_id") or entry.name))
        document = await trio.to_thread.run_sync(fitted, document, session.folder, name)
        return succeeded(document, twice=host_name(context) not in STRUCTURED_READERS)
    except InputRequired as raised:
        assert call is not None
        return call.input_required(raised)
    except Exception as error:
        document = error_document(error)
        if document["code"] == 500 and not isinstance(error, DispatchError | DetailedError):
            with suppress(OSError, ValueError):  # standard error may be closed
                traceback.print_exception(error, file=sys.stderr)
        return failed(document)


def host_name(context: Context) -> str:
    """Return what the host calls itself, "" if it does not say."""
    params = context.session.client_params
    return params.client_info.name if params is not None else ""


def succeeded(document: Document, *, twice: bool) -> CallToolResult:
    """Return a result as structured content. `twice`: also as its JSON, for hosts whose models may read text only."""
    short = f"{line(str(document.get('status') or 'done'))}; the result is the structured content"
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")) if twice else short
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=document)


def failed(document: Document) -> CallToolResult:
    """Return an error: as text, which hosts show, and as {code, message, fix} for programs."""
    text = f"error {document['code']}: {line(str(document['message']))}"
    if document["fix"]:
        text += f"\nfix: {line(str(document['fix']))}"
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=document, is_error=True)
