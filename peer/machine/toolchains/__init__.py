"""The toolchains of this machine that a project is run with: found by reading files, to be shown to runs read-only."""
