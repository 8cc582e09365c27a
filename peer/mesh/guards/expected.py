"""A raw connection of libp2p at whose other end one peer is expected: through a relay, or on the local network."""

from __future__ import annotations

from libp2p.connection_types import ConnectionType
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection


class ExpectedConnection(RawConnection):
    """`peer_id`: base58, who has to be at the other end. noise_gate.py compares it with the one that Noise proves."""

    def __init__(self, stream: ReadWriteCloser, peer_id: str, *, initiator: bool, relayed: bool) -> None:
        super().__init__(stream, initiator, ConnectionType.RELAYED if relayed else ConnectionType.DIRECT, [])
        self.peer_id = peer_id
