"""The Claude agent as a runtime: runtime.py is its `Runtime`; session.py, loaded late, runs the program."""
