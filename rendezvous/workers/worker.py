"""One of several processes: what it got from the process that started it, and what it tells it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

from rendezvous.workers.notices import (
    ANSWER,
    ANSWERED,
    ASK,
    ASKED,
    CHANGED,
    METRICS,
    OTHERS,
    READY,
    WORKER,
    Outbox,
    line,
    messages,
)

ANSWER_SECONDS: Final = 2.0
"""For the metrics of the others. One that stands still is left out."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """File descriptors that a worker was started with: of a stream to the process that did, of sockets to accept at,
    and of those for /metrics alone."""

    control: int
    listening: tuple[int, ...]
    metrics: tuple[int, ...] = ()

    @property
    def option(self) -> str:
        """The value of --worker."""
        return ":".join(",".join(map(str, each)) for each in ((self.control,), self.listening, self.metrics))

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        return (self.control, *self.listening, *self.metrics)

    @classmethod
    def read(cls, option: str) -> Inherited:
        """Read the value of --worker. Raises ValueError."""
        control, *sockets = option.split(":")
        listening, metrics = (tuple(map(int, filter(None, each.split(",")))) for each in sockets)
        return cls(int(control), listening, metrics)

    def listeners(self) -> Sequence[trio.SocketListener]:
        """Return what the broker accepts at."""
        return [trio.SocketListener(_adopted(each)) for each in self.listening]

    def metrics_listeners(self) -> Sequence[trio.SocketListener]:
        """Return what /metrics alone is served at."""
        return [trio.SocketListener(_adopted(each)) for each in self.metrics]

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
        self._asking = trio.Lock()
        self._question = 0
        self._own = ""
        self._missing: set[str] | None = None
        self._found: dict[str, Any] = {}
        self._all_found = trio.Event()
        self.snapshot: Callable[[], Mapping[str, Any]] = dict
        """What this process has counted."""
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

    async def metrics(self) -> dict[str, Any]:
        """Return what each process counted, by its number, this one's among them; without those that do not answer
        in ANSWER_SECONDS."""
        async with self._asking:
            self._question += 1
            self._missing, self._found, self._all_found = None, {}, trio.Event()
            self._outbox.post({ASK: self._question})
            with trio.move_on_after(ANSWER_SECONDS):
                await self._all_found.wait()
            return {**self._found, self._own: self.snapshot()}

    def _answered(self, message: Mapping[str, Any]) -> None:
        if message[ANSWERED] != self._question:
            return  # too late
        if OTHERS in message:
            self._own, self._missing = str(message[WORKER]), set(map(str, message[OTHERS]))
        elif self._missing is not None:
            self._missing.discard(str(message[WORKER]))
            self._found[str(message[WORKER])] = message[METRICS]
        if not self._missing:
            self._all_found.set()

    async def run(self) -> None:
        """Exchange messages until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send)
            async for message in messages(self._stream):
                if ASKED in message:
                    self._outbox.post({ANSWER: message[ASKED], METRICS: self.snapshot()})
                elif ANSWERED in message:
                    self._answered(message)
                elif CHANGED in message:
                    told = message[CHANGED]
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
