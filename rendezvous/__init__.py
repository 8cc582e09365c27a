"""The self-hosted rendezvous broker: sign-in, sealed presence, invitations. No task ever passes here."""
