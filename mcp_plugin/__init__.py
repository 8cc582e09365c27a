"""The MCP server `dispatch-mcp` and the Claude Code plugin: dispatch from inside an agent's session."""
