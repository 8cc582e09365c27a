"""Change sets of real overlays and of copies, and what they are made of."""
