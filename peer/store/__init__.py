"""The local store: SQLite with numbered migrations, one module per aggregate. All SQL on it is here."""
