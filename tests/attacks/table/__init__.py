"""The attempts by class. Each is a function that does the forbidden thing, and returns if it could."""
