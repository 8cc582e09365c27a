"""Packages from registries, fetched for a run: no tunnel, but what the registry's own grammar of paths can ask for."""
