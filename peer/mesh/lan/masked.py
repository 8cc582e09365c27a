"""A byte stream with a mask over its beginning: what Noise says first is for the two devices alone. It proves nothing.

Each direction of each connection has a key of its own (peer/protocol/lan.py), so none of the keystream is used twice.
"""

from __future__ import annotations

import trio
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from libp2p.io.trio import TrioTCPStream

from peer.protocol.lan import MASKED_BYTES


class MaskedStream(TrioTCPStream):
    """`writes`, `reads`: the 32-byte keys of what is sent and of what comes."""

    def __init__(self, stream: trio.SocketStream, *, writes: bytes, reads: bytes) -> None:
        super().__init__(stream)
        self._writes, self._reads = _Mask(writes), _Mask(reads)
        self._turn = trio.Lock()

    async def write(self, data: bytes) -> None:
        """Send bytes, in the order of the calls."""
        async with self._turn:
            await super().write(self._writes.over(data))

    async def read(self, n: int | None = None) -> bytes:
        """Return up to `n` bytes, waiting for the first; b"" at the end."""
        return self._reads.over(await super().read(n))


class _Mask:
    def __init__(self, key: bytes) -> None:
        self._stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
        self._left = MASKED_BYTES

    def over(self, data: bytes) -> bytes:
        """Return the next bytes with the mask on, or off."""
        if not self._left:
            return data
        first = data[: self._left]
        self._left -= len(first)
        return self._stream.update(first) + data[len(first) :]
