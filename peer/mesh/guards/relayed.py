"""A pipe through a relay as a raw connection of libp2p: tagged as relayed, and of one expected peer."""

from __future__ import annotations

from libp2p.connection_types import ConnectionType
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection


class RelayedConnection(RawConnection):
    """`peer_id`: base58, who has to be at the other end. noise_gate.py compares it with the one that Noise proves."""

    def __init__(self, pipe: ReadWriteCloser, peer_id: str, *, initiator: bool) -> None:
        super().__init__(pipe, initiator, ConnectionType.RELAYED, [])
        self.peer_id = peer_id
