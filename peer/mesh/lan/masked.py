"""A byte stream with a mask over it: what Noise says first is for the two devices alone. It proves nothing; Noise does.

Each direction of each connection has a key of its own (peer/protocol/lan.py), so none of the keystream is used twice.
"""

from __future__ import annotations

import trio
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from libp2p.io.trio import TrioTCPStream


class MaskedStream(TrioTCPStream):
    """`writes`, `reads`: the 32-byte keys of what is sent and of what comes."""

    def __init__(self, stream: trio.SocketStream, *, writes: bytes, reads: bytes) -> None:
        super().__init__(stream)
        self._writes, self._reads = _mask(writes), _mask(reads)
        self._turn = trio.Lock()

    async def write(self, data: bytes) -> None:
        """Send bytes, in the order of the calls."""
        async with self._turn:
            await super().write(self._writes.update(data))

    async def read(self, n: int | None = None) -> bytes:
        """Return up to `n` bytes, waiting for the first; b"" at the end."""
        return self._reads.update(await super().read(n))


def _mask(key: bytes) -> CipherContext:
    return Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
