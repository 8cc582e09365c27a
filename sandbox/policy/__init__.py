"""What a run may do, decided on values: decision.py judges a tool call, rules.py has what `always` stores. Pure."""
