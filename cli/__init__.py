"""The `dispatch` command. Starts fast: never imports libp2p, trio or the node at module level."""
