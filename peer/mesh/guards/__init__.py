"""What makes py-libp2p 0.8.1 safe for a daemon: one module per subject, each guard with a test that fails without it.

noise_gate: who may connect. swarm: handshakes, slots, handlers. yamux, yamux_stream, yamux_header: the multiplexer, all
ours. The stock behaviour that each replaces is described there; re-run tests/mesh on every change of the pin.
"""
