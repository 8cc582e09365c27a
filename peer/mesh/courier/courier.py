"""The courier: one sender for each peer, and inbound streams. The decisions are in sender.py and receiver.py."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeAlias, assert_never
from weakref import WeakValueDictionary

import structlog
import trio

from peer.mesh.courier import events, wire
from peer.mesh.courier.driver import Addresses, Hello, OnHello, Outbox, SenderDriver
from peer.mesh.courier.events import ReceiverCommand
from peer.mesh.courier.limits import CourierLimits
from peer.mesh.courier.receiver import InboundStream
from peer.mesh.host import MeshHost
from peer.mesh.streams import Stream
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import Invalid, TooLarge, Unavailable

log = structlog.get_logger(__name__)

Receive: TypeAlias = Callable[[str, bytes], Awaitable[Acknowledgement]]


def no_hello(_peer_id: str) -> bytes:
    """Send no hello."""
    return b""


async def ignore_hello(_peer_id: str, _raw: bytes) -> None:
    """Ignore a peer's hello."""


class Courier:
    """Statements out of `outbox` to peers, statements from peers into `receive`.

    `receive(peer_id, raw)` verifies and stores one statement and returns the acknowledgement. It is called for one
    statement of a peer at a time, in the order they were sent, and must return the same for the same bytes again.
    Refusals are returned: if it raises, the peer gets 500 and sends again later. `addresses(peer_id)` returns the
    multiaddrs to try, [] if none is known.

    `hello(peer_id)` returns this device's hello for the peer, at most wire.MAX_HELLO bytes, b"" for none; it goes first
    on every stream, in both directions. `on_hello(peer_id, raw)` gets the peer's hello: at most once for each stream,
    never for two streams of one peer at a time, and before anything that the peer sent after it. If it raises, that is
    logged and the statements that follow are received all the same.
    """

    def __init__(
        self,
        host: MeshHost,
        *,
        outbox: Outbox,
        receive: Receive,
        addresses: Addresses,
        hello: Hello = no_hello,
        on_hello: OnHello = ignore_hello,
        limits: CourierLimits | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._host = host
        self._outbox = outbox
        self._receive = receive
        self._addresses = addresses
        self._hello = hello
        self._on_hello = on_hello
        self._limits = limits or CourierLimits()
        self._jitter = jitter
        self._dial_slots = trio.CapacityLimiter(self._limits.dials)
        self._senders: dict[str, SenderDriver] = {}
        self._nursery: trio.Nursery | None = None
        self._inbound: dict[str, trio.CancelScope] = {}
        """Each peer's newest stream."""
        self._inbound_streams = 0
        self._turns: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        """One lock for each peer, held while the node processes a statement or a hello of the peer."""
        host.handle(wire.COURIER, self._serve)
        host.on_connected(lambda peer_id: self.sender(peer_id).wake(events.PeerConnected()))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send while the block runs. The host must be running around it; the host alone already receives."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for sender in self._senders.values():
                nursery.start_soon(sender.run)
            try:
                yield
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    def wake(self, peer_id: str) -> None:
        """Look for something to send: the outbox got something for the peer, or there is news of where it is."""
        self.sender(peer_id).wake(events.Woken())

    def greet(self, peer_ids: Iterable[str]) -> None:
        """Connect to each peer once, so that what waits on either side is sent."""
        for peer_id in peer_ids:
            self.sender(peer_id).wake(events.GreetingAsked())

    def renew(self, peer_ids: Iterable[str]) -> None:
        """Try each peer for which something waits again now: the ways to it are new, and no failure of before counts.

        At most once a second each, however often it is called.
        """
        for peer_id in peer_ids:
            self.sender(peer_id).wake(events.Renewed())

    def say_hello_anew(self) -> None:
        """Send this device's hello to each peer again, on new streams: it is another one now."""
        for peer_id in list(self._senders):
            self.forget(peer_id)
            self.greet([peer_id])

    # --- sending

    def sender(self, peer_id: str) -> SenderDriver:
        """Return the sender to a peer."""
        # Kept until forget(): there are as many as admitted peers, each an idle task.
        sender = self._senders.get(peer_id)
        if sender is None:
            sender = self._senders[peer_id] = SenderDriver(
                peer_id,
                host=self._host,
                outbox=self._outbox,
                addresses=self._addresses,
                limits=self._limits,
                dial_slots=self._dial_slots,
                jitter=self._jitter,
                hello=self._own_hello,
                on_hello=self._deliver_hello,
            )
            if self._nursery is not None:
                self._nursery.start_soon(sender.run)
        return sender

    def forget(self, peer_id: str) -> None:
        """End the sender to a peer that is no longer admitted. The outbox keeps what waits for it."""
        if (sender := self._senders.pop(peer_id, None)) is not None:
            sender.stop()

    # --- receiving

    async def _serve(self, stream: Stream) -> None:
        """Receive statements from one inbound stream. A peer's newest stream ends its older one, which is half dead."""
        older = self._inbound.get(stream.peer_id)
        if older is not None:
            older.cancel()
        self._inbound_streams += 1
        number = self._inbound_streams
        machine = InboundStream(number, hello=self._own_hello(stream.peer_id))
        with trio.CancelScope() as scope:
            self._inbound[stream.peer_id] = scope
            try:
                going = True
                while going:
                    frame = wire.decode(await stream.receive(max_bytes=wire.MAX_FRAME))
                    going = await self._carry_out(stream, machine, machine.handle(events.FrameReceived(number, frame)))
            except (Unavailable, Invalid, TooLarge) as error:
                log.debug("courier.inbound_ended", peer=stream.peer_id, error=type(error).__name__)
            finally:
                if self._inbound.get(stream.peer_id) is scope:
                    del self._inbound[stream.peer_id]
        await stream.reset()

    async def _carry_out(self, stream: Stream, machine: InboundStream, commands: list[ReceiverCommand]) -> bool:
        """Do what an inbound stream asks for; return whether it goes on."""
        for command in commands:
            match command:
                case events.SendFrame(_, frame):
                    await stream.write(wire.encode(frame), deadline=self._limits.send)
                case events.Receive(raw):
                    received = events.Received(await self._take(stream.peer_id, raw))
                    await self._carry_out(stream, machine, machine.handle(received))
                case events.DeliverHello(raw):
                    await self._deliver_hello(stream.peer_id, raw)
                case events.ResetStream(_, reason):
                    log.info("courier.inbound_reset", peer=stream.peer_id, reason=reason)
                    return False
                case _:
                    assert_never(command)
        return True

    async def _take(self, peer_id: str, raw: bytes) -> Acknowledgement:
        """Have the node receive one statement. Not interrupted when the stream ends: storing has effects after it."""
        async with self._turn(peer_id):
            with trio.CancelScope(shield=True):
                try:
                    with trio.fail_after(self._limits.receive):
                        return await self._receive(peer_id, raw)
                except Exception as error:
                    log.error("courier.receive_failed", peer=peer_id, bytes=len(raw), error=type(error).__name__)
                    code = 503 if isinstance(error, trio.TooSlowError) else 500
                    return Acknowledgement(code, "the other side could not store it", "it is sent again automatically")

    # --- hellos

    def _own_hello(self, peer_id: str) -> bytes:
        """Return our hello for the peer, b"" if it fails or is too large: statements are sent without it."""
        try:
            raw = self._hello(peer_id)
        except Exception:
            log.exception("courier.no_hello", peer=peer_id)
            return b""
        if len(raw) > wire.MAX_HELLO:
            log.error("courier.hello_too_large", bytes=len(raw))
            return b""
        return raw

    async def _deliver_hello(self, peer_id: str, raw: bytes) -> None:
        async with self._turn(peer_id):
            with trio.CancelScope(shield=True):
                try:
                    with trio.fail_after(self._limits.receive):
                        await self._on_hello(peer_id, raw)
                except Exception as error:
                    log.error("courier.hello_failed", peer=peer_id, bytes=len(raw), error=type(error).__name__)

    def _turn(self, peer_id: str) -> trio.Lock:
        return self._turns.setdefault(peer_id, trio.Lock())
