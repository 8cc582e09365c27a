"""The messages of an established Noise connection: many of them by one read, and by one write, of what carries them.

Stock py-libp2p reads the length of a message and then its body, each through five layers with a lock and a checkpoint,
and writes every message by itself. On the wire nothing differs: 2 bytes of length, ciphertext, 16 bytes of tag.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from libp2p.abc import IRawConnection
from libp2p.io.abc import EncryptedMsgReadWriter
from libp2p.security.noise.io import NoiseTransportReadWriter

LENGTH_BYTES = 2
MAX_PLAINTEXT = 65_535 - 16
"""Of one message: what its length can say, less the tag of Poly1305."""
MAX_RECEIVED = 256 * 1024
"""Bytes held of a connection. A read requests what is missing of so many, which are whole messages of bulk: then the
next one begins with a read of its own, and nothing is copied to put it together."""
WITHOUT_PAUSE = 16
"""Messages handed out before other tasks have their turn: a peer may send thousands of empty ones by one write."""


class NoiseMessages(EncryptedMsgReadWriter):
    """Encrypts and decrypts for libp2p's SecureSession, in place of its own `stock`.

    One task may read and one may write at a time. Cancelling either breaks the connection (see yamux.py).
    """

    conn: IRawConnection

    def __init__(self, stock: NoiseTransportReadWriter) -> None:
        super().__init__(stock.conn)
        protocol = stock.noise_state.noise_protocol
        self._seal: Callable[[None, bytes | memoryview], bytes] = protocol.cipher_state_encrypt.encrypt_with_ad
        self._open: Callable[[None, bytes | memoryview], bytes] = protocol.cipher_state_decrypt.decrypt_with_ad
        self._received = b""
        """At most MAX_RECEIVED bytes: what was read last, after the part of a message that came before it."""
        self._taken = 0
        """Bytes of it that were handed out."""
        self._handed_out = 0

    async def read_msg(self) -> bytes:
        """Return the next message; b"" at the end of the connection. Raises InvalidTag, and what `conn` raises."""
        self._handed_out += 1
        if self._handed_out % WITHOUT_PAUSE == 0:
            await trio.lowlevel.checkpoint()
        while (message := self._next()) is None:
            rest, self._taken = self._received[self._taken :], 0
            self._received = rest
            data = await self.conn.read(MAX_RECEIVED - len(rest))
            if not data:
                return b""
            self._received = rest + data if rest else data
        return message

    def _next(self) -> bytes | None:
        start = self._taken + LENGTH_BYTES
        end = start + int.from_bytes(self._received[self._taken : start], "big")
        if len(self._received) < max(start, end):
            return None
        with memoryview(self._received) as view, view[start:end] as sealed:
            message = self.decrypt(sealed)
        self._taken = end
        return message

    async def write_msg(self, msg: bytes) -> None:
        """Send bytes in as many messages as they need, by one write."""
        parts: list[bytes] = []
        with memoryview(msg) as view:
            for start in range(0, max(1, len(view)), MAX_PLAINTEXT):
                sealed = self.encrypt(view[start : start + MAX_PLAINTEXT])
                parts += (len(sealed).to_bytes(LENGTH_BYTES, "big"), sealed)
        await self.conn.write(b"".join(parts))

    def encrypt(self, data: bytes | memoryview) -> bytes:
        return self._seal(None, data)

    def decrypt(self, data: bytes | memoryview) -> bytes:
        return self._open(None, data)

    async def close(self) -> None:
        await self.conn.close()
