"""The model's API as a run reaches it: interface.py, the proxy with its budgets, and one room for each API."""
