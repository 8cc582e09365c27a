"""The local store: SQLite with numbered migrations, one module per aggregate. Nobody else writes SQL."""
