"""Who may do what here: scopes, edges, invitations, fingerprints, rates. Pure but for filesystem.py; no storing."""
