"""Programs that start a node, the daemon and a session's node, and the one write that needs no daemon."""
