"""The scripted runtime: runtime.py is its `Runtime`, executor.py the program that carries out its calls inside."""
