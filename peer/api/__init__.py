"""The daemon's loopback API: routes, responses, connections, health; page/ is the local page. Decides nothing."""
