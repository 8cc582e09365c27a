"""Whole nodes on several paths in virtual time: the real classes of the mesh, over networks and relays that fail.

virtual: the clock and the order of tasks. reach: who reaches whom, and how. lines: what carries bytes. swarm: in place
of libp2p's. relays: the real relay behind lines. near: in place of multicast. broker: in place of a broker. machine: a
node. play: what happens, from a seed. oracle: what must be true. `make simulate-paths` plays seeds.
"""
