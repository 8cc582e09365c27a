"""The point that every tool call passes (gate.py), the paths that a call means, and the preview for a person."""
