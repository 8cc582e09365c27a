"""One device's node: protocol, trust, store, mesh, runs and the loopback API. Running a task is sandbox/."""
