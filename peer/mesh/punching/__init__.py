"""Hole punching: two devices behind NATs that a relay has joined dial each other at one instant (docs/protocol.md).

ports: a local port from which several connections go out. endpoints: where such a port is, seen from outside. puncher:
agrees with the other device on the instant, dials, and hands on what comes of it. When it is tried: mesh/paths.py.
"""

from peer.mesh.punching.puncher import Puncher, PunchLimits

__all__ = ["PunchLimits", "Puncher"]
