"""Which users' invitations changed, told between processes: one line of JSON for each message on a stream.

A notice is a hint to read again. So what waits to be sent is a set of users, and above its bound everybody.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from typing import Final

import trio

MAX_WAITING: Final = 200
"""Users in one message, and waiting to be sent."""
MAX_LINE: Final = 256 * 1024
"""Bytes; a user id has at most 254 characters."""
READY: Final = "ready"
CHANGED: Final = "changed"


class Outbox:
    """What is still to be told at the other end of a stream."""

    def __init__(self) -> None:
        self._users: dict[str, None] = {}
        self._everybody = False
        self._something = trio.Event()

    def tell(self, user_ids: Iterable[str] | None) -> None:
        """Tell of these users, or of everybody."""
        if user_ids is None:
            self._everybody = True
        else:
            self._users.update(dict.fromkeys(user_ids))
        if len(self._users) > MAX_WAITING:
            self._everybody = True
        if self._everybody:
            self._users.clear()
        if self._everybody or self._users:
            self._something.set()

    async def send(self, stream: trio.abc.SendStream) -> None:
        """Send what there is to tell, whenever there is something, until the stream breaks (trio.BrokenResourceError)
        or this is cancelled."""
        while True:
            await self._something.wait()
            told = None if self._everybody else list(self._users)
            self._users, self._everybody, self._something = {}, False, trio.Event()
            await stream.send_all(line({CHANGED: told}))


def line(message: object) -> bytes:
    """Return a message as it is sent."""
    return json.dumps(message).encode() + b"\n"


async def messages(stream: trio.abc.ReceiveStream) -> AsyncIterator[dict[str, object]]:
    """Give each message until the other process has closed the stream or ended. Raises ValueError for what is none."""
    received = bytearray()
    while True:
        try:
            piece = await stream.receive_some(MAX_LINE)
        except trio.BrokenResourceError:
            return
        if not piece:
            return
        *lines, received = (received + piece).split(b"\n")
        if len(received) > MAX_LINE:
            raise ValueError("a line without an end")
        for each in lines:
            message = json.loads(each)
            if not isinstance(message, dict):
                raise ValueError("a message is an object")
            yield message
