"""The line to one peer: takes its parcels from the outbox, sends them, hears the answers, and tries again.

One task per peer, so nothing one peer does can hold up another. Receiving is in courier.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from peer.mesh.courier_wire import COURIER, MAX_ANSWER, Parcel, read_answer, statement_frame
from peer.mesh.host import MeshHost
from peer.mesh.streams import Stream, StreamEnded
from peer.protocol.acknowledgements import Acknowledgement, Disposition, disposition
from peer.protocol.errors import DispatchError, Invalid, TooLarge

log = structlog.get_logger(__name__)

Addresses = Callable[[str], Awaitable[list[str]]]


class Outbox(Protocol):
    """The durable queue of statements for each peer; the courier keeps nothing that it would miss after a crash."""

    async def next_for(self, peer_id: str, exclude_keys: Collection[str]) -> Parcel | None:
        """Return the first parcel for the peer, priority ones first, or None.

        Not one whose `key` or `ordering_key` is in `exclude_keys`, nor one behind such a parcel of its ordering key.
        """

    async def answered(self, key: str, answer: Acknowledgement) -> None:
        """The answer is final: note it and take the parcel out, in one transaction."""

    async def failed(self, key: str, answer: Acknowledgement) -> None:
        """The answer asks for another try later; the parcel stays."""


@dataclass(frozen=True, kw_only=True)
class CourierLimits:
    """Times in seconds."""

    in_flight: int = 16
    in_flight_bytes: int = 1024 * 1024
    """So that a cancel waits behind a mebibyte at most; one larger parcel goes alone."""
    retries_waiting: int = 64
    """So many parcels answered with a retry code make the whole line wait."""
    first_retry: float = 1.0
    retry_factor: float = 1.5
    longest_retry: float = 60.0
    send: float = 60.0
    """For one frame to be taken by the peer."""
    answer: float = 30.0
    """Nothing answered for this long while something waits for an answer: the stream is given up."""
    receive: float = 20.0
    """For the node to verify and store one statement; less than `answer`, so that a slow node says so itself."""
    dials: int = 16
    """Dials under way, all lines together."""

    def delay(self, failures: int, jitter: float) -> float:
        """Return the wait after so many failures in a row (from 1), spread over 75-125 % by `jitter` in 0 … 1."""
        # The exponent is capped because 1.5 ** 2000 overflows a float and 60 s is reached at 12.
        wait = self.first_retry * self.retry_factor ** min(failures - 1, 32)
        return min(wait, self.longest_retry) * (0.75 + jitter / 2)


@dataclass
class _Retry:
    """A parcel that waits for another try."""

    ordering_key: str | None
    failures: int
    due: float


class Line:
    """Everything that is to be sent to one peer. `run` it in a task; the other methods may be called at any time."""

    def __init__(
        self,
        peer_id: str,
        *,
        host: MeshHost,
        outbox: Outbox,
        addresses: Addresses,
        limits: CourierLimits,
        dial_slots: trio.CapacityLimiter,
        jitter: Callable[[], float],
    ) -> None:
        self._peer_id = peer_id
        self._host = host
        self._outbox = outbox
        self._addresses = addresses
        self._limits = limits
        self._dial_slots = dial_slots
        self._jitter = jitter
        self._log = log.bind(peer=peer_id)
        self._news = trio.Event()
        self._showed_up = trio.Event()
        self._greet = False
        self._failures = 0
        self._flying: dict[int, tuple[Parcel, int]] = {}  # seq → parcel, its failures so far
        self._retries: dict[str, _Retry] = {}
        self._patience = trio.CancelScope()

    # --- called from outside

    def wake(self) -> None:
        """The outbox may have something for the peer."""
        self._news.set()

    def greet(self) -> None:
        """Connect once, even if nothing waits here: the peer may have something for us."""
        self._greet = True
        self._news.set()

    def showed_up(self) -> None:
        """The peer is connected: whatever waits, goes now."""
        self._greet = False
        self._failures = 0
        for retry in self._retries.values():
            retry.due = 0.0
        self._news.set()
        self._showed_up.set()

    # --- the task

    async def run(self) -> None:
        """Serve the line for ever."""
        while True:
            news = self._expect_news()
            try:
                await self._once(news)
            except DispatchError as error:
                self._failures += 1
                self._log.debug("courier.unreachable", code=error.code, failures=self._failures)
                await self._pause()
            except Exception as error:
                # The outbox or the address book failed. One line waits, the others go on.
                self._failures += 1
                self._log.warning("courier.line_failed", error=type(error).__name__)
                await self._pause()

    async def _once(self, news: trio.Event) -> None:
        waiting = await self._outbox.next_for(self._peer_id, self._excluded()) is not None
        if not waiting and not self._greet:
            with trio.move_on_at(self._next_due()):
                await news.wait()
            return
        self._greet = False
        if not self._host.connected(self._peer_id):
            async with self._dial_slots:
                await self._host.connect(self._peer_id, await self._addresses(self._peer_id))
        if waiting:
            stream = await self._host.open_stream(self._peer_id, COURIER)
            await self._converse(stream)

    async def _pause(self) -> None:
        """Wait before the next try, less if there is reason to: the peer came, or something new waits for it.

        News end the wait only after `first_retry`, so that a busy outbox does not dial a dead peer in a circle.
        """
        until = trio.current_time() + self._limits.delay(self._failures, self._jitter())
        self._showed_up = trio.Event()
        news = self._expect_news()
        with trio.move_on_after(self._limits.first_retry):
            await self._showed_up.wait()
        with trio.move_on_at(until):
            await news.wait()

    # --- one stream

    async def _converse(self, stream: Stream) -> None:
        """Send and hear until the stream ends; then raise StreamEnded, so that the line tries again."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._until_end, nursery.cancel_scope, self._hear, stream)
                nursery.start_soon(self._until_end, nursery.cancel_scope, self._speak, stream)
        finally:
            self._flying.clear()
            await stream.reset()
        raise StreamEnded("the courier stream ended")

    async def _until_end(
        self, scope: trio.CancelScope, half: Callable[[Stream], Awaitable[None]], stream: Stream
    ) -> None:
        try:
            await half(stream)
        except (StreamEnded, Invalid, TooLarge) as error:
            self._log.debug("courier.stream_ended", error=type(error).__name__)
        except Exception as error:
            self._log.warning("courier.line_failed", error=type(error).__name__)
        scope.cancel()

    async def _speak(self, stream: Stream) -> None:
        seq = 0
        while True:
            news = self._expect_news()
            parcel = None
            if self._room():
                parcel = await self._outbox.next_for(self._peer_id, self._excluded())
            if parcel is None:
                with trio.move_on_at(self._next_due()):
                    await news.wait()
                continue
            retry = self._retries.pop(parcel.key, None)
            self._flying[seq] = (parcel, retry.failures if retry else 0)
            if len(self._flying) == 1:
                self._wait_patiently()
            await stream.send(statement_frame(seq, parcel.raw), deadline=self._limits.send)
            seq += 1

    async def _hear(self, stream: Stream) -> None:
        with trio.CancelScope() as self._patience:
            self._wait_patiently()
            await self._hear_answers(stream)
        self._log.info("courier.silent", waiting=len(self._flying))

    async def _hear_answers(self, stream: Stream) -> None:
        while True:
            seq, answer = read_answer(await stream.receive(max_bytes=MAX_ANSWER))
            if seq not in self._flying:
                raise Invalid("an answer to nothing that was asked")
            self._patience.deadline = float("inf")  # the outbox may take its time
            await self._settle(seq, answer)
            self._failures = 0
            self._news.set()
            self._wait_patiently()

    async def _settle(self, seq: int, answer: Acknowledgement) -> None:
        parcel, failures = self._flying[seq]
        if disposition(answer.code) is Disposition.FINAL:
            await self._outbox.answered(parcel.key, answer)
        else:
            failures += 1
            due = trio.current_time() + self._limits.delay(failures, self._jitter())
            self._retries[parcel.key] = _Retry(parcel.ordering_key, failures, due)
            await self._outbox.failed(parcel.key, answer)
        # Only now: until the outbox has it, the parcel must stay excluded, or it would be sent twice.
        del self._flying[seq]

    def _wait_patiently(self) -> None:
        """Start the time for the next answer, or stop it if none is due."""
        wait = self._limits.answer if self._flying else float("inf")
        self._patience.deadline = trio.current_time() + wait

    # --- what may go next

    def _room(self) -> bool:
        flying_bytes = sum(len(parcel.raw) for parcel, _ in self._flying.values())
        waiting = sum(retry.due > trio.current_time() for retry in self._retries.values())
        return (
            len(self._flying) < self._limits.in_flight
            and flying_bytes < self._limits.in_flight_bytes
            and waiting < self._limits.retries_waiting
        )

    def _excluded(self) -> set[str]:
        """Keys and ordering keys of all that is in flight or waits for another try."""
        now = trio.current_time()
        # A parcel purged from the outbox while it waited is never sent again: forget it some time after.
        for key in [key for key, retry in self._retries.items() if retry.due + self._limits.longest_retry < now]:
            del self._retries[key]
        excluded = set()
        for parcel, _ in self._flying.values():
            excluded |= {parcel.key, parcel.ordering_key}
        for key, retry in self._retries.items():
            if retry.due > now:
                excluded |= {key, retry.ordering_key}
        return {key for key in excluded if key is not None}

    def _next_due(self) -> float:
        """When the next retry is due, on trio's clock; never, if none waits."""
        now = trio.current_time()
        return min((retry.due for retry in self._retries.values() if retry.due > now), default=float("inf"))

    def _expect_news(self) -> trio.Event:
        """Return an event for what happens from now on; take it before looking, then wait on it."""
        self._news = trio.Event()
        return self._news
