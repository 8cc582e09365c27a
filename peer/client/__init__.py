"""Clients of the loopback API: blocking.py (programs), on_trio.py (the MCP server), routes.py (both). No display."""
