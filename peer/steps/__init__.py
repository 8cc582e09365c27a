"""The steps of a node: plain functions, each run in one store transaction by the journal. No waiting, no network."""
