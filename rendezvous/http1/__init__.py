"""An HTTP/1.1 server (RFC 9112) for ASGI applications on trio: what is parsed is llhttp's work, by way of httptools.

No routes and nothing of the broker. Which connections have a place: rendezvous/connections.py.
"""
