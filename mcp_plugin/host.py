"""The host of a session, as far as it is known without the SDK: its two descriptors, and what it said before that was
loaded. What a message means is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from mcp_plugin.greeting import MOST, Begun


class Host:
    """One host. `answered` is set once its first request has its answer on the wire."""

    def __init__(self, incoming: int, outgoing: int, begun: Begun, left: Callable[[], None]) -> None:
        """`begun` is what `greet` has done with the descriptors; `left` is called when the host closes its side."""
        self.incoming = incoming
        self.outgoing = outgoing
        self.begun = begun
        self.left = left
        self.answered = trio.Event()
        if begun.answered is not None:
            self.answered.set()

    async def read_ahead(self) -> None:
        """Read until the SDK is there and this is cancelled, or the host leaves: what it asked needs no answer then."""
        while len(self.begun.read) < MOST:
            try:
                await trio.lowlevel.wait_readable(self.incoming)
                piece = os.read(self.incoming, MOST)
            except OSError:
                return  # a file, for which there is nothing to wait
            if not piece:
                self.left()
                return
            self.begun = self.begun._replace(read=self.begun.read + piece)
