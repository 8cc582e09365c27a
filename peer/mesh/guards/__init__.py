"""What makes py-libp2p 0.8.1 safe for a daemon: one module per subject, each guard with a test that fails without it.

Stock behaviour that each guard replaces is described where the guard is; docs/mesh.md has the list.
"""
