"""Putting chosen changes of a run into the person's folders, whole or not at all, and taking them back."""
