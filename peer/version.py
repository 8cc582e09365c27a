"""The version of the project, as pyproject.toml says it. Reading it from the installed metadata would cost 30 ms."""

VERSION = "0.1.0"
