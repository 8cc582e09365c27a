"""One inbound stream of statements as a machine: frames in, commands out. No trio, no sockets, no time.

Theory. The opener sends a hello or none, then statements. The other side sends its own hello before its first
acknowledgement, then one acknowledgement for each statement, in their order. One statement is with the node at a time
and no frame is read meanwhile, so that a flood of statements stays at its sender. Any other frame resets the stream;
its opener sends what was not acknowledged on its next one.

That a peer's newest stream replaces its older one, and that statements of one peer reach the node one at a time on
whatever stream they came, is done by the driver (courier.py): it takes a cancel scope and a lock, no decision.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, assert_never

from peer.mesh.courier import events, wire
from peer.mesh.courier.events import ReceiverCommand, ReceiverEvent
from peer.protocol.errors import Internal


class Phase(enum.Enum):
    """Where an inbound stream stands."""

    OPENED = "opened"
    """Nothing has come yet but frames of unknown kinds."""
    READING = "reading"
    RECEIVING = "receiving"
    """A statement is with the node."""
    ENDED = "ended"


class Input(enum.Enum):
    """What moves an inbound stream."""

    HELLO = "hello"
    STATEMENT = "statement"
    UNKNOWN = "unknown"
    RECEIVED = "received"
    VIOLATION = "violation"


PHASES: Final[Mapping[Phase, Mapping[Input, Phase]]] = {
    Phase.OPENED: {
        Input.HELLO: Phase.READING,
        Input.STATEMENT: Phase.RECEIVING,
        Input.UNKNOWN: Phase.OPENED,
        Input.VIOLATION: Phase.ENDED,
    },
    Phase.READING: {
        Input.STATEMENT: Phase.RECEIVING,
        Input.UNKNOWN: Phase.READING,
        Input.VIOLATION: Phase.ENDED,
    },
    Phase.RECEIVING: {Input.RECEIVED: Phase.READING},
    Phase.ENDED: {},
}
"""A frame that is not listed violates the protocol, anything else that is not listed is a defect of the driver."""


class InboundStream:
    """What one stream that a peer opened may do. Report each frame and each result to `handle`, do what it returns."""

    def __init__(self, stream: int, *, hello: bytes = b"") -> None:
        """`hello` is our own hello to send, b"" for none."""
        self._stream = stream
        self._hello = hello
        self._phase = Phase.OPENED
        self._seq = 0
        self._unknown_frames = 0

    @property
    def phase(self) -> Phase:
        """Where the stream stands."""
        return self._phase

    def __repr__(self) -> str:
        return f"InboundStream({self._stream}, {self._phase.value})"

    def handle(self, event: ReceiverEvent) -> list[ReceiverCommand]:
        """Process one event; return the commands to carry out, in order. Raises Internal for a defect of the driver."""
        match event:
            case events.FrameReceived(_, frame):
                return self._on_frame(frame)
            case events.Received(acknowledgement):
                self._move(Input.RECEIVED)
                return [self._send(wire.AcknowledgementFrame(self._seq, acknowledgement))]
            case _:
                assert_never(event)

    def _on_frame(self, frame: wire.Frame) -> list[ReceiverCommand]:
        if self._phase not in (Phase.OPENED, Phase.READING):
            raise Internal(f"a frame was read from a stream that is {self._phase.value}")
        match frame:
            case wire.StatementFrame(seq, raw):
                self._move(Input.STATEMENT)
                self._seq = seq
                return [*self._own_hello(), events.Receive(raw)]
            case wire.HelloFrame(raw):
                if Input.HELLO not in PHASES[self._phase]:
                    return self._violation("a second hello, or one after a statement")
                self._move(Input.HELLO)
                return [*self._own_hello(), events.DeliverHello(raw)]
            case wire.UnknownFrame():
                self._move(Input.UNKNOWN)
                self._unknown_frames += 1
                if self._unknown_frames > wire.MAX_UNKNOWN:
                    return self._violation("too many frames of unknown kinds")
                return []
            case wire.AcknowledgementFrame():
                return self._violation("an acknowledgement where statements belong")
            case _:
                assert_never(frame)

    def _violation(self, reason: str) -> list[ReceiverCommand]:
        self._move(Input.VIOLATION)
        return [events.ResetStream(self._stream, reason)]

    def _own_hello(self) -> list[ReceiverCommand]:
        hello, self._hello = self._hello, b""
        return [self._send(wire.HelloFrame(hello))] if hello else []

    def _send(self, frame: wire.OwnFrame) -> events.SendFrame:
        return events.SendFrame(self._stream, frame)

    def _move(self, step: Input) -> None:
        after = PHASES[self._phase].get(step)
        if after is None:
            raise Internal(f"an inbound stream that is {self._phase.value} takes no {step.value}")
        self._phase = after
