"""`dispatch setup`: all that this machine needs, step by step. steps.py: what each step looks at and does."""
