"""What belongs to this machine and its user: state folder, lock, settings, keys, MCP servers, log. No contacts here."""
