"""What goes into the courier's machines and what comes out: small frozen values with readable reprs. No behaviour.

Events say what happened, commands what is to be done. A driver (driver.py, or a simulator) carries commands out and
reports each result as an event; each command's docstring names its result. Streams are numbered by
the machine that asks for them, so that events of an ended stream are distinguished from those of its successor.

No repr shows content: only keys, sizes and codes, so that events and commands can be logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from peer.mesh.courier.wire import Frame, OwnFrame
from peer.protocol.acknowledgements import Acknowledgement


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One statement in the outbox. Items of one `ordering_key` are never in flight together; None: of no order."""

    key: str
    ordering_key: str | None
    raw: bytes

    def __repr__(self) -> str:
        return f"OutboxItem({self.key!r}, {self.ordering_key!r}, {len(self.raw)} bytes)"


# --- events from outside


@dataclass(frozen=True, slots=True)
class Woken:
    """The outbox may have something new for the peer, or there is news of where the peer is."""


@dataclass(frozen=True, slots=True)
class GreetingAsked:
    """Connect to the peer once, even if nothing waits here: the peer may have something for us."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """This machine is on another network, slept, or has its broker back: what failed before says nothing any more."""


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """There is a new connection to the peer, whichever side opened it."""


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """The peer sent a frame on a stream."""

    stream: int
    frame: Frame


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """A stream could not be opened, or has ended. `reason` is for the log."""

    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """It is the time of the last SetTimer, or later."""


# --- results of commands


@dataclass(frozen=True, slots=True)
class Fetched:
    """Result of FetchNext: the item that may go next, None if there is none.

    `more`: whether the outbox may hold others for the peer, neither this one nor among the keys of the FetchNext.
    """

    item: OutboxItem | None
    more: bool = True


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """Result of FetchNext: the outbox could not be read."""


@dataclass(frozen=True, slots=True)
class Connected:
    """Result of Dial: there is a connection to the peer."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Result of Dial: there is none."""


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """Result of OpenStream. `hello` is our own hello to send, b"" for none. (Or StreamEnded.)"""

    stream: int
    hello: bytes = b""

    def __repr__(self) -> str:
        return f"StreamOpened({self.stream}, hello of {len(self.hello)} bytes)"


@dataclass(frozen=True, slots=True)
class FrameSent:
    """Result of SendFrame: the frame was handed to the stream. (Or StreamEnded.)"""

    stream: int


@dataclass(frozen=True, slots=True)
class Stored:
    """Result of StoreFinal and StoreRetry: it is durable. After StoreFinal the outbox no longer has the item."""

    key: str


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """Result of StoreFinal and StoreRetry: nothing was stored."""

    key: str


@dataclass(frozen=True, slots=True)
class Received:
    """Result of Receive: what the node replies."""

    acknowledgement: Acknowledgement


SenderEvent: TypeAlias = (
    Woken
    | GreetingAsked
    | Renewed
    | PeerConnected
    | FrameReceived
    | StreamEnded
    | TimerFired
    | Fetched
    | FetchFailed
    | Connected
    | Unreachable
    | StreamOpened
    | FrameSent
    | Stored
    | StoreFailed
)
ReceiverEvent: TypeAlias = FrameReceived | Received


# --- commands


@dataclass(frozen=True, slots=True)
class FetchNext:
    """Find the first item in the outbox that is not among `keys`, nor of an ordering key among `orderings`, nor behind
    another item of its ordering key. Result: Fetched or FetchFailed, always one."""

    keys: frozenset[str]
    orderings: frozenset[str]

    def __repr__(self) -> str:
        return f"FetchNext(without {sorted(self.keys)}, {sorted(self.orderings)})"


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to the peer; nothing to do if it is connected. Result: Connected or Unreachable, always one."""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Open a stream and give it this number. Result: StreamOpened or StreamEnded, always one."""

    stream: int


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Write a frame. Result: FrameSent or StreamEnded, unless the stream has ended meanwhile."""

    stream: int
    frame: OwnFrame


@dataclass(frozen=True, slots=True)
class ResetStream:
    """End a stream that was opened. No result; events of it that follow are ignored."""

    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class StoreFinal:
    """Record a final acknowledgement and take the item out of the outbox, in one transaction. Result: Stored or
    StoreFailed, always one. Carried out in the order of the commands, as StoreRetry and DeliverHello."""

    key: str
    acknowledgement: Acknowledgement

    def __repr__(self) -> str:
        return f"StoreFinal({self.key!r}, {self.acknowledgement.code})"


@dataclass(frozen=True, slots=True)
class StoreRetry:
    """Record that the peer asks for another try later; the item stays. Result: as of StoreFinal."""

    key: str
    acknowledgement: Acknowledgement

    def __repr__(self) -> str:
        return f"StoreRetry({self.key!r}, {self.acknowledgement.code})"


@dataclass(frozen=True, slots=True)
class DeliverHello:
    """Pass the peer's hello to the node. No result."""

    raw: bytes

    def __repr__(self) -> str:
        return f"DeliverHello({len(self.raw)} bytes)"


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Report TimerFired at this time, and not at the one asked before. No result."""

    at: float


@dataclass(frozen=True, slots=True)
class Receive:
    """Have the node verify and store a statement. Result: Received, always one. No frame is read before it."""

    raw: bytes

    def __repr__(self) -> str:
        return f"Receive({len(self.raw)} bytes)"


SenderCommand: TypeAlias = (
    FetchNext | Dial | OpenStream | SendFrame | ResetStream | StoreFinal | StoreRetry | DeliverHello | SetTimer
)
ReceiverCommand: TypeAlias = SendFrame | ResetStream | DeliverHello | Receive
