"""The broker's storage in SQL that SQLite and PostgreSQL both run; each of them is a package beside this one."""
