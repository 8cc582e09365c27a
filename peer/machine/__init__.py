"""This machine and its person: state folder, lock, settings, keys, MCP servers, logging. Nothing of other people."""
