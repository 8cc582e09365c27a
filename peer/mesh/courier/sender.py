"""Sending to one peer as a machine: events and time in, commands out. No trio, no sockets, no clock, no randomness.

Theory. Only the durable outbox determines what to send. The machine keeps nothing that it would miss after a crash:
what is out at the moment, what waits for another try (both in window.py), and when to try. Two things run side by side:

1. The link to the peer goes round the states of `LINK`. It leaves DOWN when an item waits, or once to greet: to say
   hello where there is one, else to be connected and no more. Every failure leads through RESTING, the longer the more
   failures in a row, so that dials per second are bounded.
2. Fetching. At most one FetchNext is out at any time. `_news` means that there may be an item that the last fetch could
   not see: after a wake, when a retry is due, when an ordering key is free again. Where that fetch left nothing behind
   (`_more`), nothing waits for an ordering key, nor for the frame to be written. With the link down, an item that is
   found is only a reason to dial, as it may be purged before the stream is open; with the link up it is sent.

On a stream, a hello goes first if there is one, then statements. A frame is written after the one before was taken, and
at most `in_flight` statements and `in_flight_bytes` bytes are without acknowledgement. What was in flight when a stream
ended is sent again on the next one; the other side gives the same bytes the same acknowledgement.

`handle` takes the time of a monotonic clock in seconds and one random number in 0 … 1, of which jitter is made.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, assert_never

from peer.mesh.courier import events, wire
from peer.mesh.courier.events import OutboxItem, SenderCommand, SenderEvent
from peer.mesh.courier.limits import CourierLimits
from peer.mesh.courier.window import NEVER, Window
from peer.protocol.errors import Internal


class Link(enum.Enum):
    """Where the link to the peer stands."""

    DOWN = "down"
    DIALING = "dialing"
    OPENING = "opening"
    UP = "up"
    RESTING = "resting"


class Step(enum.Enum):
    """What moves the link."""

    WANTED = "wanted"
    """An item waits, or a greeting was asked for."""
    GREETED = "greeted"
    """Connected, and there is nothing to send."""
    CONNECTED = "connected"
    """Connected, and an item waits or there is a hello to send."""
    UNREACHABLE = "unreachable"
    OPENED = "opened"
    FAILED = "failed"
    RESTED = "rested"


LINK: Final[Mapping[Link, Mapping[Step, Link]]] = {
    Link.DOWN: {Step.WANTED: Link.DIALING, Step.FAILED: Link.RESTING},
    Link.DIALING: {Step.GREETED: Link.DOWN, Step.CONNECTED: Link.OPENING, Step.UNREACHABLE: Link.RESTING},
    Link.OPENING: {Step.OPENED: Link.UP, Step.FAILED: Link.RESTING},
    Link.UP: {Step.FAILED: Link.RESTING},
    Link.RESTING: {Step.RESTED: Link.DOWN},
}
"""What is not listed cannot happen: it raises Internal, for the driver or this module has a defect."""


class PeerSender:
    """Everything that is to be sent to one peer. Report every event to `handle` and carry out what it returns."""

    def __init__(self, limits: CourierLimits, *, says_hello: bool = False) -> None:
        """`says_hello`: there is a hello to send, so a greeting opens a stream for it."""
        self._limits = limits
        self._says_hello = says_hello
        self._now = self._jitter = 0.0
        self._commands: list[SenderCommand] = []
        self._timer = NEVER
        self._window = Window(limits)

        self._link = Link.DOWN
        self._failures = 0
        self._rest_began = self._rest_until = 0.0
        self._greeting = False
        self._item_waits = False
        """While DIALING: a fetch found something."""
        self._unreachable = False
        """The last dial failed."""
        self._outdated = False
        """The link was made, or begun, before the last Renewed: once it fails, the peer is greeted anew."""
        self._showed_up = -NEVER
        """When a new connection last made everything due at once."""

        self._news = True
        self._fetching = False
        self._more = True
        """The last fetch left items in the outbox, beside those that are out or wait for another try."""

        self._stream = 0
        self._seq = 0
        self._writing = False
        self._acknowledged_any = False
        self._hello_seen = False
        self._unknown_frames = 0
        self._quiet_since = 0.0
        """Since when the peer could have sent an acknowledgement and has not."""

    @property
    def link(self) -> Link:
        """Where the link stands."""
        return self._link

    @property
    def failures(self) -> int:
        """How often in a row the peer was not reached or a stream ended, with no acknowledgement in between."""
        return self._failures

    @property
    def in_flight(self) -> list[str]:
        """The keys of statements that the peer has not acknowledged."""
        return self._window.in_flight

    def __repr__(self) -> str:
        return f"PeerSender({self._link.value}, {self._failures} failures, stream {self._stream}, {self._window})"

    # --- events

    def handle(self, event: SenderEvent, *, now: float, jitter: float) -> list[SenderCommand]:
        """Process one event; return the commands to carry out, in order. Raises Internal or KeyError for a defect."""
        self._now, self._jitter, self._commands = now, jitter, []
        match event:  # what comes with each statement first
            case events.Fetched(item, more):
                self._on_fetched(item, more)
            case events.FrameSent(stream):
                if self._is_up(stream):
                    self._writing = False
                    self._quiet_since = now
            case events.FrameReceived(stream, frame):
                if self._is_up(stream):
                    self._on_frame(frame)
            case events.Stored(key):
                again = self._window.stored(key)
                self._failures, self._outdated = 0, False
                self._quiet_since = now
                # A fetch that is under way leaves out the item, and what its ordering key held back.
                self._news = self._news or self._more or self._fetching or again
            case events.Woken():
                self._on_news()
            case events.TimerFired():
                pass
            case events.PeerConnected():
                self._on_peer_connected()
            case events.GreetingAsked():
                self._greeting = self._link in (Link.DOWN, Link.RESTING)
                self._on_news()
            case events.Renewed():
                self._failures = 0
                self._outdated = self._link in (Link.DIALING, Link.OPENING, Link.UP)
                self._on_news()
            case events.Connected():
                self._on_connected()
            case events.Unreachable():
                self._unreachable = True
                self._fail(Step.UNREACHABLE)
            case events.StreamOpened(stream, hello):
                self._on_opened(stream, hello)
            case events.StreamEnded(stream, _):
                if stream == self._stream and self._link in (Link.OPENING, Link.UP):
                    self._fail()
            case events.FetchFailed():
                self._on_fetch_failed()
            case events.StoreFailed(key):
                self._on_store_failed(key)
            case _:
                assert_never(event)
        self._advance()
        return self._commands

    def _on_news(self) -> None:
        self._news = True
        if self._link is Link.RESTING:
            # Not immediately, or a busy outbox would dial a dead peer in a loop.
            self._rest_until = min(self._rest_until, self._rest_began + self._limits.first_retry)

    def _on_peer_connected(self) -> None:
        """Send what waits now. A peer whose connections come and go has that once in `first_retry` seconds."""
        self._greeting = False
        if self._link is Link.DIALING and not self._unreachable:
            return  # our own first dial succeeded: no news about the peer
        again = self._showed_up + self._limits.first_retry
        if self._now < again:
            self._rest_until = min(self._rest_until, again)
            return
        self._showed_up = self._rest_until = self._now
        self._window.release(self._now, everything=True)
        self._news = True
        if self._link is not Link.DIALING:
            self._failures = 0

    def _on_fetched(self, item: OutboxItem | None, more: bool) -> None:
        self._end_fetch()
        self._more = more
        if item is None:
            return
        if self._link is Link.UP:
            self._send(item)
        elif self._link is Link.DIALING:
            self._item_waits = True
        elif self._link is Link.DOWN:
            self._dial(item_waits=True)

    def _on_fetch_failed(self) -> None:
        self._end_fetch()
        if self._link is Link.UP:
            self._reset("the outbox could not be read")
        elif self._link is Link.DOWN:
            self._fail()

    def _end_fetch(self) -> None:
        if not self._fetching:
            raise Internal("the result of a fetch that was not asked for")
        self._fetching = False

    def _on_store_failed(self, key: str) -> None:
        self._window.stored(key)
        self._news = True
        if self._link is Link.UP:
            self._reset("an acknowledgement could not be stored")

    def _on_connected(self) -> None:
        self._unreachable = False
        if self._item_waits or self._says_hello:
            self._move(Step.CONNECTED)
            self._stream += 1
            self._commands.append(events.OpenStream(self._stream))
        else:
            self._move(Step.GREETED)
            self._failures, self._outdated = 0, False

    def _on_opened(self, stream: int, hello: bytes) -> None:
        if stream != self._stream:
            raise Internal(f"stream {stream} was opened, but {self._stream} was asked for")
        self._move(Step.OPENED)
        self._outdated = False
        self._seq = self._unknown_frames = 0
        self._acknowledged_any = self._hello_seen = self._writing = False
        self._news = True
        if hello:
            self._write(wire.HelloFrame(hello))

    def _on_frame(self, frame: wire.Frame) -> None:
        match frame:
            case wire.AcknowledgementFrame():
                self._on_acknowledgement(frame)
            case wire.HelloFrame(raw):
                if self._hello_seen or self._acknowledged_any:
                    self._reset("a second hello, or one after an acknowledgement")
                else:
                    self._hello_seen = True
                    self._commands.append(events.DeliverHello(raw))
            case wire.UnknownFrame():
                self._unknown_frames += 1
                if self._unknown_frames > wire.MAX_UNKNOWN:
                    self._reset("too many frames of unknown kinds")
            case wire.StatementFrame():
                self._reset("a statement where acknowledgements belong")
            case _:
                assert_never(frame)

    def _on_acknowledgement(self, frame: wire.AcknowledgementFrame) -> None:
        reply = frame.acknowledgement
        key = self._window.acknowledged(frame.seq, reply, now=self._now, jitter=self._jitter)
        if key is None:
            self._reset("an acknowledgement of what was not in flight")
            return
        self._acknowledged_any = True
        self._commands.append(events.StoreFinal(key, reply) if reply.final else events.StoreRetry(key, reply))

    # --- the link

    def _move(self, step: Step) -> None:
        after = LINK[self._link].get(step)
        if after is None:
            raise Internal(f"the link is {self._link.value} and cannot be {step.value}")
        self._link = after

    def _dial(self, *, item_waits: bool) -> None:
        self._move(Step.WANTED)
        self._item_waits = item_waits
        self._greeting = False
        self._commands.append(events.Dial())

    def _reset(self, reason: str) -> None:
        self._commands.append(events.ResetStream(self._stream, reason))
        self._fail()

    def _fail(self, step: Step = Step.FAILED) -> None:
        self._move(step)
        self._greeting, self._outdated = self._greeting or self._outdated, False
        self._failures += 1
        self._rest_began = self._now
        self._rest_until = self._now + self._limits.delay(self._failures, self._jitter)
        self._window.stream_ended()

    def _is_up(self, stream: int) -> bool:
        return stream == self._stream and self._link is Link.UP

    # --- sending

    def _send(self, item: OutboxItem) -> None:
        if not self._window.fits(item):
            self._more = True  # it is fetched again when one of those that are out is stored
            return
        self._window.sent(self._seq, item)
        self._write(wire.StatementFrame(self._seq, item.raw))
        self._seq += 1
        self._news = self._news or self._more

    def _write(self, frame: wire.OwnFrame) -> None:
        self._writing = True
        self._commands.append(events.SendFrame(self._stream, frame))

    # --- after every event

    def _advance(self) -> None:
        if self._link is Link.RESTING and self._now >= self._rest_until:
            self._move(Step.RESTED)
            self._news = True
        if self._link is Link.UP and self._now >= self._silence_ends:
            self._reset("silent")
        if self._window.release(self._now):
            self._news = True
        if self._link is Link.DOWN and self._greeting:
            self._dial(item_waits=False)
        if self._news and self._may_fetch:
            self._news, self._fetching = False, True
            self._commands.append(self._window.fetch())
        self._set_timer()

    @property
    def _may_fetch(self) -> bool:
        if self._fetching:
            return False
        return self._link is Link.DOWN or (self._link is Link.UP and not self._writing and self._window.has_room)

    @property
    def _silence_ends(self) -> float:
        """Until when an acknowledgement must come on the open stream.

        Not while a frame is written, which has a deadline of its own, nor while the store keeps us from reading on.
        """
        if self._window.expects and not self._writing:
            return self._quiet_since + self._limits.silence
        return NEVER

    def _set_timer(self) -> None:
        """Have the timer fire in time. One that fires too early is left: each statement would move it twice."""
        if self._now >= self._timer:
            self._timer = NEVER
        at = NEVER
        if self._link is Link.UP:
            at = min(self._window.next_due, self._silence_ends)
        elif self._link is Link.DOWN:
            at = self._window.next_due
        elif self._link is Link.RESTING:
            at = self._rest_until
        if at < self._timer:
            self._timer = at
            self._commands.append(events.SetTimer(at))
