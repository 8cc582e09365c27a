"""The negotiation that makes each connection a Yamux of ours (yamux.py), with one share of bounds for each device."""

from __future__ import annotations

from weakref import WeakValueDictionary

from libp2p.abc import ISecureConn
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream

from peer.mesh.guards.yamux import SafeYamux
from peer.mesh.guards.yamux_limits import DeviceShare, YamuxLimits

YAMUX = "/yamux/1.0.0"


class SafeMuxer(MuxerMultistream):
    """Muxer negotiation that offers only Yamux and builds SafeYamux: stock hard-codes its own class for that name."""

    def __init__(self, *, limits: YamuxLimits) -> None:
        super().__init__({TProtocol(YAMUX): SafeYamux})
        self._limits = limits
        self._shares: WeakValueDictionary[ID, DeviceShare] = WeakValueDictionary()  # as long as a connection has it

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> SafeYamux:
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        share = self._shares.setdefault(peer_id, DeviceShare(self._limits))
        session = SafeYamux(conn, peer_id, limits=self._limits, share=share)
        self._annotate_connection(session, conn, protocol)
        return session
