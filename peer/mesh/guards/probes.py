"""What relays sent to this host's listeners to see whether they are reached from outside. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

REMEMBERED: Final = 64
"""While a relay is asked, which takes seconds. A stranger who sends more in that time keeps a port from being
announced, and does nothing else."""


class ProbeOver(Exception):
    """A connection was a relay's probe, or something that begins as one."""


class Probes:
    """The bytes of probes, kept while one is expected: a relay's own choice, which no stranger guesses."""

    def __init__(self) -> None:
        self._came: deque[bytes] = deque(maxlen=REMEMBERED)
        self._expected = 0

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Keep what comes while the block runs."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            if not self._expected:
                self._came.clear()

    def note(self, sent: bytes) -> None:
        """Note the bytes of one probe."""
        if self._expected:
            self._came.append(sent)

    def came(self, sent: bytes) -> bool:
        """Whether these bytes came."""
        return sent in self._came
