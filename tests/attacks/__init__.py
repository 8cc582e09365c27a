"""Attempts to break out of a run, each with the refusal it must meet: `python -m pytest tests/attacks`."""
