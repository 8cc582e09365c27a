"""The rules of trust: scopes, edges, invitations, fingerprints, rates. Pure except filesystem.py; nothing is stored."""
