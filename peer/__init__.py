"""One device's node: protocol, trust, store, mesh, runs and the loopback API. Running a task is sandbox/.

The version of the project is written here and nowhere else. pyproject.toml reads it when a package is built; cli,
mcp_plugin and peer import it, since reading the metadata of the installed package takes 30 ms; rendezvous and sandbox,
which may not import this package, read that metadata.
"""

VERSION = "0.1.0"
