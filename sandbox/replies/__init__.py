"""Replies of agents as trees that a page can show: Markdown, read by a program that can only compute."""
