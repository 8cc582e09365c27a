"""The granted MCP servers as the claude program gets them: a server in this process for each, over its control channel.

So nothing more is bound into the sandbox. Calls go to the bridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import mcp_types as types
from claude_agent_sdk import McpServerConfig
from mcp.server import Server

from sandbox.mcp.bridge import McpBridge, Tool, full_name

# Otherwise the program offers the tools only behind its tool search, which runs do not have.
_OFFERED: Final = {"anthropic/alwaysLoad": True}


def servers(bridge: McpBridge) -> dict[str, McpServerConfig]:
    """The option `mcp_servers` of a session. Every call goes to `bridge`, which forwards it only for a ticket."""
    return {
        name: {"type": "sdk", "name": name, "instance": _server(bridge, name, tools)}
        for name, tools in bridge.servers.items()
    }


def _server(bridge: McpBridge, name: str, tools: Sequence[Tool]) -> Server[object]:
    async def list_tools(_context: object, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    description=tool.description,
                    input_schema=dict(tool.input_schema),
                    _meta=dict(_OFFERED),
                )
                for tool in tools
            ]
        )

    async def call_tool(_context: object, params: types.CallToolRequestParams) -> types.CallToolResult:
        reply = await bridge.call(full_name(name, params.name), params.arguments or {})
        if reply.result is not None:
            return reply.result
        return types.CallToolResult(content=[types.TextContent(type="text", text=reply.text)], is_error=not reply.ok)

    return Server(name, on_list_tools=list_tools, on_call_tool=call_tool)
