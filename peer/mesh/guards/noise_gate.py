"""Who may connect: Noise as the only handshake, and admission by peer id as soon as Noise proved it.

Stock py-libp2p also offers SECIO and plaintext, and over plaintext anybody can pose as any peer whose public key they
have. Its own `ConnectionGate` filters IP addresses only.
"""

from __future__ import annotations

from collections.abc import Callable

from libp2p.abc import IRawConnection, ISecureConn
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.peer.id import ID
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.security.noise.transport import PROTOCOL_ID, Transport
from libp2p.security.secure_session import SecureSession
from libp2p.security.security_multistream import SecurityMultistream

from peer.mesh.guards.expected import ExpectedConnection
from peer.mesh.guards.noise_messages import NoiseMessages


class GatedNoise(Transport):
    """libp2p Noise (XX) that closes a connection whose proven peer id is not admitted.

    `admits(peer_id)` is called for every connection, in both directions, before a byte of the muxer is read. `refused`
    counts the inbound connections closed here; nothing else is recorded of strangers.
    """

    def __init__(self, key_pair: KeyPair, *, admits: Callable[[str], bool]) -> None:
        super().__init__(key_pair, noise_privkey=create_x25519_key_pair().private_key)
        self._admits = admits
        self.refused = 0

    async def secure_inbound(self, conn: IRawConnection) -> ISecureConn:
        secured = await super().secure_inbound(conn)
        remote = secured.get_remote_peer().to_base58()
        # It has to be whoever rang, through a relay, which may join whom it likes; or who the preface on the local
        # network was of, since one contact could take another one's.
        another = isinstance(conn, ExpectedConnection) and remote != conn.peer_id
        if another or not self._admits(remote):
            self.refused += 1
            await secured.close()
            raise HandshakeFailure("this peer is not admitted")
        return _by_our_messages(secured)

    async def secure_outbound(self, conn: IRawConnection, peer_id: ID) -> ISecureConn:
        # Checked after the handshake: the peer may have lost admission while the dial was under way.
        secured = await super().secure_outbound(conn, peer_id)
        if not self._admits(secured.get_remote_peer().to_base58()):
            await secured.close()
            raise HandshakeFailure("this peer is not admitted")
        return _by_our_messages(secured)


def _by_our_messages(secured: ISecureConn) -> ISecureConn:
    """Return it with its messages read and written by noise_messages.py; the handshake has left none half read."""
    assert isinstance(secured, SecureSession) and isinstance(secured.conn, NoiseTransportReadWriter)
    secured.conn = NoiseMessages(secured.conn)
    return secured


def noise_only(gate: GatedNoise) -> SecurityMultistream:
    """Return the security negotiation that offers and accepts nothing but `gate`."""
    return SecurityMultistream({PROTOCOL_ID: gate})
