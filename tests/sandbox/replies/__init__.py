"""Replies read as Markdown."""
