"""What the node does, step by step: plain functions, each run inside one store transaction. No waiting, no sending."""
