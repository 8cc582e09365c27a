"""Device to device: the hardened libp2p host, the courier of statements and the transfer of blobs.

What statements mean, who is a contact and what is stored are not here. Only this package imports libp2p. This file
imports nothing, because `import libp2p` takes about a second and 90 MB, which only a running node should pay.
"""
