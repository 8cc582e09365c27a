"""Device to device: the hardened libp2p host, the courier of statements and the transfer of blobs.

What statements mean, who is a contact and what is stored are not here. Only this package imports libp2p, and importing
this file imports nothing: `import libp2p` costs about a second and 90 MB, so only a running node pays for it.
"""
