"""The MCP server and the Claude Code plugin (they come with an issue of their own)."""
