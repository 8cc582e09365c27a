"""Putting changes of a run into a person's folders."""
