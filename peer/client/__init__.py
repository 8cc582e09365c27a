"""Clients of the daemon's loopback API: blocking for programs, on_trio for the MCP server. No display, no store."""
