"""Carries out what the machine of one peer's sender asks for: dials, streams, the outbox, the timer. Decides nothing.

Events reach the machine by plain calls, from whichever task has something to report; there is no queue between. While a
stream is open a sender has three tasks: one keeps time, one fetches and writes (the machine has one of these under way
at a time), one reads, and stores what it read before it reads on. They live as long as what they work on: a task for
each command made a statement cost a third more processor time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, TypeAlias, assert_never

import structlog
import trio

from peer.mesh.courier import events, wire
from peer.mesh.courier.events import Fetched, SenderCommand, SenderEvent
from peer.mesh.courier.limits import CourierLimits
from peer.mesh.courier.sender import PeerSender
from peer.mesh.courier.window import NEVER
from peer.mesh.host import MeshHost
from peer.mesh.streams import Stream
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import Invalid, TooLarge, Unavailable

log = structlog.get_logger(__name__)

Addresses: TypeAlias = Callable[[str], Awaitable[list[str]]]
Hello: TypeAlias = Callable[[str], bytes]
OnHello: TypeAlias = Callable[[str, bytes], Awaitable[None]]
OutsideEvent: TypeAlias = events.Woken | events.GreetingAsked | events.Renewed | events.PeerConnected


class Outbox(Protocol):
    """The durable queue of statements for each peer. The courier keeps nothing that it would miss after a crash."""

    async def next_for(
        self, peer_id: str, *, excluded_keys: Collection[str], excluded_orderings: Collection[str]
    ) -> Fetched:
        """Return the first item for the peer, urgent ones first, or none; and whether there are more.

        Not one whose `key` or `ordering_key` is excluded, nor one behind another item of its ordering key. These two
        count as more.
        """

    async def acknowledged(self, key: str, acknowledgement: Acknowledgement) -> None:
        """Record a final acknowledgement and take the item out, in one transaction."""

    async def deferred(self, key: str, acknowledgement: Acknowledgement) -> None:
        """Note that the peer asks for another try later; the item stays."""


class SenderDriver:
    """The I/O of one PeerSender. `run` it in a task."""

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
        hello: Hello,
        on_hello: OnHello,
    ) -> None:
        self._peer_id = peer_id
        self._host = host
        self._outbox = outbox
        self._addresses = addresses
        self._limits = limits
        self._dial_slots = dial_slots
        self._jitter = jitter
        self._hello = hello
        self._on_hello = on_hello
        self._log = log.bind(peer=peer_id)
        self._early: dict[OutsideEvent, None] = {}
        self._whole = trio.CancelScope()
        self._stopped = False
        self._start_anew()

    def _start_anew(self) -> None:
        self.machine = PeerSender(self._limits, says_hello=bool(self._hello(self._peer_id)))
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._due = NEVER
        self._timer = trio.CancelScope()
        self._streams: dict[int, Stream] = {}
        self._to_do: deque[events.FetchNext | events.SendFrame] = deque()
        self._something_to_do = trio.Event()
        self._to_store: deque[events.StoreFinal | events.StoreRetry | events.DeliverHello] = deque()
        self._storing = False

    async def run(self) -> None:
        """Send until stopped or cancelled. A defect stops this peer's sender alone for `longest_retry` seconds."""
        # A new one each time: a courier may run again.
        with trio.CancelScope() as self._whole:
            while not self._stopped:
                try:
                    with self._scope:
                        await self._run_machine()
                except Exception:
                    self._log.exception("courier.defect", machine=repr(self.machine))
                finally:
                    # The outbox has everything, so a new machine continues where this one stopped.
                    self._start_anew()
                await trio.sleep(self._limits.longest_retry)

    def stop(self) -> None:
        """End `run`, for good."""
        self._stopped = True
        self._whole.cancel()

    async def _run_machine(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._fetch_and_write)
            early, self._early = self._early, {}
            for event in (events.Woken(), *early):
                self.feed(event)
            await self._keep_time()

    def wake(self, event: OutsideEvent) -> None:
        """Report something from outside, at any time. While the sender does not run, it is kept."""
        if self._nursery is None:
            self._early[event] = None
        else:
            self.feed(event)

    def feed(self, event: SenderEvent) -> None:
        """Report an event to the machine and begin what it asks for."""
        assert self._nursery is not None
        try:
            commands = self.machine.handle(event, now=trio.current_time(), jitter=self._jitter())
        except Exception:
            self._log.exception("courier.defect", courier_event=repr(event), machine=repr(self.machine))
            self._scope.cancel()
            return
        for command in commands:
            self._begin(self._nursery, command)

    def _begin(self, nursery: trio.Nursery, command: SenderCommand) -> None:
        match command:
            case events.FetchNext() | events.SendFrame():
                self._to_do.append(command)
                self._something_to_do.set()
            case events.SetTimer(at):
                self._due = self._timer.deadline = at
            case events.StoreFinal() | events.StoreRetry() | events.DeliverHello():
                self._to_store.append(command)
            case events.Dial():
                nursery.start_soon(self._dial)
            case events.OpenStream(number):
                nursery.start_soon(self._read_stream, number)
            case events.ResetStream(number, reason):
                self._log.info("courier.stream_reset", reason=reason)
                self._host.doubt(self._peer_id)
                if number in self._streams:
                    nursery.start_soon(self._streams[number].reset)  # which ends its reader and writer too
            case _:
                assert_never(command)

    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._due) as self._timer:
                await trio.sleep(NEVER)
            # Since the deadline passed, another task may have fed an event, for which the machine set the timer anew.
            if trio.current_time() >= self._due:
                self._due = NEVER
                self.feed(events.TimerFired())

    async def _fetch_and_write(self) -> None:
        while True:
            while self._to_do:
                command = self._to_do.popleft()
                if isinstance(command, events.FetchNext):
                    await self._fetch(command)
                else:
                    await self._send(command)
            self._something_to_do = trio.Event()
            await self._something_to_do.wait()

    # --- one command each

    async def _fetch(self, command: events.FetchNext) -> None:
        try:
            fetched = await self._outbox.next_for(
                self._peer_id, excluded_keys=command.keys, excluded_orderings=command.orderings
            )
        except Exception as error:
            self._log.warning("courier.not_fetched", error=type(error).__name__)
            self.feed(events.FetchFailed())
        else:
            self.feed(fetched)

    async def _dial(self) -> None:
        try:
            if not self._host.connected(self._peer_id):
                async with self._dial_slots:
                    await self._host.connect(self._peer_id, await self._addresses(self._peer_id))
        except Exception as error:
            self._note("courier.unreachable", error)
            self.feed(events.Unreachable())
        else:
            self.feed(events.Connected())

    async def _read_stream(self, number: int) -> None:
        """Open the stream and report its frames until it ends."""
        try:
            stream = await self._host.open_stream(self._peer_id, wire.COURIER)
        except Exception as error:
            self._note("courier.no_stream", error)
            self.feed(events.StreamEnded(number, type(error).__name__))
            return
        self._streams[number] = stream
        try:
            self.feed(events.StreamOpened(number, self._hello(self._peer_id)))
            while True:
                frame = wire.decode(await stream.receive(max_bytes=wire.MAX_REPLY))
                self.feed(events.FrameReceived(number, frame))
                await self._store()
        except Exception as error:
            self._note("courier.stream_ended", error)
            self.feed(events.StreamEnded(number, type(error).__name__))
        finally:
            self._streams.pop(number, None)
            await stream.reset()

    async def _send(self, command: events.SendFrame) -> None:
        stream = self._streams.get(command.stream)
        if stream is None:
            return  # it has ended, and its reader has reported that
        try:
            await stream.write(wire.encode(command.frame), deadline=self._limits.send)
        except Exception as error:
            self._note("courier.not_sent", error)
            self.feed(events.StreamEnded(command.stream, type(error).__name__))
            await stream.reset()  # which ends its reader too
        else:
            self.feed(events.FrameSent(command.stream))

    async def _store(self) -> None:
        """Store what waits for it, in order."""
        if self._storing:
            return  # the reader of the stream before is at it, and goes on with this
        self._storing = True
        while self._to_store:
            command = self._to_store.popleft()
            if isinstance(command, events.DeliverHello):
                await self._on_hello(self._peer_id, command.raw)
            else:
                await self._store_one(command)
        self._storing = False

    async def _store_one(self, command: events.StoreFinal | events.StoreRetry) -> None:
        try:
            if isinstance(command, events.StoreFinal):
                await self._outbox.acknowledged(command.key, command.acknowledgement)
            else:
                await self._outbox.deferred(command.key, command.acknowledgement)
        except Exception as error:
            self._log.warning("courier.not_stored", error=type(error).__name__)
            self.feed(events.StoreFailed(command.key))
        else:
            self.feed(events.Stored(command.key))

    def _note(self, what: str, error: Exception) -> None:
        """Log a failure: quietly where the network or the peer is the reason, with its traceback where it is here."""
        about = {"error": type(error).__name__, "failures": self.machine.failures}
        if isinstance(error, Unavailable | Invalid | TooLarge):
            self._log.debug(what, **about)
        else:
            self._log.warning(what, **about, exc_info=error)
