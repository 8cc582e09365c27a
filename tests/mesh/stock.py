"""py-libp2p 0.8.1's own parts, put so that the same attacks can be made on them as on ours. No tests here."""

from __future__ import annotations

from libp2p.abc import ISecureTransport
from libp2p.crypto.ed25519 import Ed25519PrivateKey, create_new_key_pair
from libp2p.crypto.keys import KeyPair, PublicKey
from libp2p.custom_types import TProtocol
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.stream_muxer.yamux.yamux import Yamux

from peer.mesh.guards.yamux_limits import YamuxLimits
from tests.mesh.pipes import Pipe


class StockYamux(Yamux):
    """The library's Yamux, made as ours is. Of the limits it knows none."""

    def __init__(self, secured: Pipe, peer_id: None, *, limits: YamuxLimits) -> None:
        async def on_close() -> None: ...

        self.limits = limits
        super().__init__(secured, peer_id, is_initiator=secured.is_initiator, on_close=on_close)  # type: ignore[arg-type]


class _Claimed(Ed25519PrivateKey):
    """A private key that says it belongs to another public key: what a thief has."""

    claimed: PublicKey

    def get_public_key(self) -> PublicKey:
        return self.claimed


def plaintext_thief(victims_friend: PublicKey, seed: bytes) -> tuple[KeyPair, dict[TProtocol, ISecureTransport]]:
    """Return keys and security options of a host that says it is whoever has this public key, and proves nothing."""
    made = create_new_key_pair(seed).private_key
    assert isinstance(made, Ed25519PrivateKey)
    key = _Claimed(made.impl)
    key.claimed = victims_friend
    pair = KeyPair(key, victims_friend)
    return pair, {TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(pair)}
