"""What starts a node or stands in for one: the daemon, the node of a session, the one write without a daemon."""
