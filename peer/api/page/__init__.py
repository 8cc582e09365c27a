"""The local page: sign-in by one-time code, the routes that only it needs, its templates, style and scripts."""
