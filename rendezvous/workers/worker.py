"""One of several processes: what it got from the process that started it, and what it tells it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import trio

from rendezvous.workers.notices import CHANGED, READY, Outbox, line, messages


@dataclass(frozen=True, slots=True)
class Inherited:
    """File descriptors that a worker was started with: of a stream to the process that did, and of sockets to accept
    at."""

    control: int
    listening: tuple[int, ...]

    @property
    def option(self) -> str:
        """The value of --worker."""
        return ",".join(map(str, (self.control, *self.listening)))

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        return (self.control, *self.listening)

    @classmethod
    def read(cls, option: str) -> Inherited:
        """Read the value of --worker. Raises ValueError."""
        control, *listening = map(int, option.split(","))
        return cls(control, tuple(listening))

    def listeners(self) -> Sequence[trio.SocketListener]:
        """Return what the broker accepts at."""
        return [trio.SocketListener(_adopted(each)) for each in self.listening]

    def others(self) -> Others:
        """Return the way to the other processes."""
        return Others(trio.SocketStream(_adopted(self.control)))


class Others:
    """The other processes of this broker, for as long as `run` does. `gone` is set once the process that started this
    one has ended."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._outbox = Outbox()
        self._ready = trio.Event()
        self._heard: Callable[[str | None], None] | None = None
        self.gone = trio.Event()

    def ready(self) -> None:
        """Say that this process accepts connections."""
        self._ready.set()

    def tell(self, user_ids: Iterable[str]) -> None:
        """Tell the other processes of users whose invitations changed."""
        self._outbox.tell(user_ids)

    async def listen(self, heard: Callable[[str | None], None]) -> None:
        """Call `heard` with each user of whom another process tells, or with None for everybody; until cancelled."""
        self._heard = heard
        heard(None)  # what was told before is lost
        try:
            await trio.sleep_forever()
        finally:
            self._heard = None

    async def run(self) -> None:
        """Exchange messages until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send)
            async for message in messages(self._stream):
                told = message.get(CHANGED)
                for user_id in told if isinstance(told, list) else [None]:
                    if self._heard is not None:
                        self._heard(user_id)
            self.gone.set()

    async def _send(self) -> None:
        try:
            await self._ready.wait()
            await self._stream.send_all(line({READY: True}))
            await self._outbox.send(self._stream)
        except trio.BrokenResourceError:
            pass  # it has ended, which the other task notices too


def _adopted(descriptor: int) -> trio.socket.SocketType:
    return trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor))
