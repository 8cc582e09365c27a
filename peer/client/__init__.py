"""Clients of the daemon's loopback API: blocking.py for programs, on_trio.py for the MCP server. No display here."""
