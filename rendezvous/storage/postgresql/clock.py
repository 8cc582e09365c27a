"""How far this machine's clock is from the database server's, by which all brokers on that server are compared.

A nonce is forgotten ten minutes after its request was signed, and a sign-in ends after ten: each by the clock of
whichever broker looks. A broker ten minutes ahead would forget what another still takes, and a request could be
replayed there. So a broker whose clock is off writes nothing.
"""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

from peer.protocol.errors import Unavailable

APART_SECONDS: Final = 60
"""Two brokers are at most twice this apart, and nonces are kept for five minutes longer than requests are taken."""


class _Rows(Protocol):
    def fetchone(self) -> Any: ...


class _Connection(Protocol):
    def execute(self, statement: str, /) -> _Rows: ...


class ServerClock:
    """The server's clock as it was seen last."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def look(self, using: _Connection) -> None:
        """Read it. What the answer takes on its way is never counted as a difference."""
        before = time.time()
        server = float(using.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()[0])
        after = time.time()
        self._ahead = after - server if server > after else max(0.0, before - server)

    def check(self) -> None:
        """Raise Unavailable if this machine's clock was too far from it."""
        if abs(self._ahead) > APART_SECONDS:
            way = "ahead of" if self._ahead > 0 else "behind"
            raise Unavailable(
                f"this broker's clock is {abs(self._ahead):.0f} s {way} its database server's, so it writes nothing",
                fix="set the clocks of both machines: `timedatectl set-ntp true`",
            )
