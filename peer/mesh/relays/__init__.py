"""Reaching contacts through relays (docs/protocol.md, "Device to relay"). What goes through a pipe is libp2p's.

websocket: opens a connection to a relay. control: the one control connection to a relay, and rings on it. pipe: a
joined pipe as a byte stream. relays: which relays this device has, who is rung where. ringing: which rings it answers.
"""

from peer.mesh.relays.pipe import Pipe
from peer.mesh.relays.relays import RelayLimits, Relays
from peer.mesh.relays.websocket import Route

__all__ = ["Pipe", "RelayLimits", "Relays", "Route"]
