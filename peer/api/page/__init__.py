"""The local page: sign-in by one-time code, its own routes, templates, style and scripts."""
