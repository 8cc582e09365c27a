"""This device at its rendezvous broker: the HTTP client, sealed presence, sign-in, and the background sync."""
