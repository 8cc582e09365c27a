"""What machines are like: their folders, umasks, locales, terminals, networks and clocks. A module a subject."""
