"""The contract of the broker's storage, run over SQLite and over a second implementation in memory."""
