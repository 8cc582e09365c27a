"""The Anthropic Messages API: api.py is its `ModelApi`, the other modules its parts."""
