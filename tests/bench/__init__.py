"""Measurements beside their baselines and goals: `make bench`. No tests: they pass or fail nothing."""
