"""`dispatch service`: the daemon as a service of this person, kept by systemd's user manager or by launchd."""
