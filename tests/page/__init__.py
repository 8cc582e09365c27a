"""The local page: its sign-in, its guards, and what a person sees and does in a real browser."""
