"""The person's own MCP servers beside a run: servers.py starts them, bridge.py forwards calls, marker.py marks them."""
