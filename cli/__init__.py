"""The `dispatch` command. Starts fast: no module imports libp2p, trio or the node at its top."""
