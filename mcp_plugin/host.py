"""The host of a session without the SDK: its two descriptors and the bytes read from it so far. Parses no message."""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from mcp_plugin.handshake import MOST, Handshake


class Host:
    """One host. `answered` is set once its first request has been answered."""

    def __init__(self, incoming: int, outgoing: int, handshake: Handshake, left: Callable[[], None]) -> None:
        """`handshake`: what `answer_first` returned for these descriptors. `left`: called when the host closes."""
        self.incoming = incoming
        self.outgoing = outgoing
        self.handshake = handshake
        self.left = left
        self.answered = trio.Event()
        if handshake.answered is not None:
            self.answered.set()

    async def read_ahead(self) -> None:
        """Read until cancelled (the SDK is loaded) or until the host closes, so that a closed host is noticed early."""
        while len(self.handshake.read) < MOST:
            try:
                await trio.lowlevel.wait_readable(self.incoming)
                piece = os.read(self.incoming, MOST)
            except OSError:
                return  # a regular file, which cannot be waited for
            if not piece:
                self.left()
                return
            self.handshake = self.handshake._replace(read=self.handshake.read + piece)
