"""Who may connect: Noise as the only handshake, and admission by peer id as soon as Noise proved it.

Stock py-libp2p also offers SECIO and plaintext, and through plaintext anybody is any peer whose public key they know;
its own `ConnectionGate` knows only IP addresses.
"""

from __future__ import annotations

from collections.abc import Callable

from libp2p.abc import IRawConnection, ISecureConn
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.peer.id import ID
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.transport import PROTOCOL_ID, Transport
from libp2p.security.security_multistream import SecurityMultistream


class GatedNoise(Transport):
    """libp2p Noise (XX) that closes a connection whose proven peer id is not admitted.

    `admits(peer_id)` is asked for every connection, in both directions and before a byte of the muxer is read.
    `refused` counts inbound connections turned away here; it is the only trace a stranger leaves.
    """

    def __init__(self, key_pair: KeyPair, *, admits: Callable[[str], bool]) -> None:
        super().__init__(key_pair, noise_privkey=create_x25519_key_pair().private_key)
        self._admits = admits
        self.refused = 0

    async def secure_inbound(self, conn: IRawConnection) -> ISecureConn:
        secured = await super().secure_inbound(conn)
        if not self._admits(secured.get_remote_peer().to_base58()):
            self.refused += 1
            await secured.close()
            raise HandshakeFailure("this peer is not admitted")
        return secured

    async def secure_outbound(self, conn: IRawConnection, peer_id: ID) -> ISecureConn:
        # Asked again after the handshake: an edge may have been revoked while the dial was under way.
        secured = await super().secure_outbound(conn, peer_id)
        if not self._admits(secured.get_remote_peer().to_base58()):
            await secured.close()
            raise HandshakeFailure("this peer is not admitted")
        return secured


def noise_only(gate: GatedNoise) -> SecurityMultistream:
    """Return the security negotiation that offers and accepts nothing but `gate`."""
    return SecurityMultistream({PROTOCOL_ID: gate})
