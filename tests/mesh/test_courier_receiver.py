"""Conversations with the machine of one inbound stream: which frames it takes, and what it says first."""

from __future__ import annotations

import pytest

from peer.mesh.courier import wire
from peer.mesh.courier.events import (
    DeliverHello,
    FrameReceived,
    Receive,
    Received,
    ReceiverCommand,
    ResetStream,
    SendFrame,
)
from peer.mesh.courier.receiver import PHASES, InboundStream, Phase
from peer.mesh.courier.wire import AcknowledgementFrame, HelloFrame, StatementFrame, UnknownFrame
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import Internal

OK = Acknowledgement(200)
OUR_HELLO = SendFrame(5, HelloFrame(b"ours"))


def stream(hello: bytes = b"ours") -> InboundStream:
    return InboundStream(5, hello=hello)


def hear(machine: InboundStream, frame: wire.Frame) -> list[ReceiverCommand]:
    return machine.handle(FrameReceived(5, frame))


def reply(machine: InboundStream, acknowledgement: Acknowledgement = OK) -> list[ReceiverCommand]:
    return machine.handle(Received(acknowledgement))


def test_hellos_go_both_ways_before_statements_and_acknowledgements() -> None:
    machine = stream()
    assert hear(machine, HelloFrame(b"theirs")) == [OUR_HELLO, DeliverHello(b"theirs")]
    assert hear(machine, StatementFrame(0, b"one")) == [Receive(b"one")]
    assert reply(machine) == [SendFrame(5, AcknowledgementFrame(0, OK))]
    assert hear(machine, StatementFrame(1, b"two")) == [Receive(b"two")]
    assert reply(machine) == [SendFrame(5, AcknowledgementFrame(1, OK))]


def test_a_stream_without_their_hello_is_served_and_gets_ours() -> None:
    machine = stream()
    assert hear(machine, StatementFrame(0, b"one")) == [OUR_HELLO, Receive(b"one")]
    assert reply(machine) == [SendFrame(5, AcknowledgementFrame(0, OK))]


def test_with_nothing_to_say_no_hello_is_sent() -> None:
    machine = stream(hello=b"")
    assert hear(machine, HelloFrame(b"theirs")) == [DeliverHello(b"theirs")]
    assert hear(machine, StatementFrame(0, b"one")) == [Receive(b"one")]


@pytest.mark.parametrize("first", [HelloFrame(b"theirs"), StatementFrame(0, b"one")], ids=repr)
def test_a_hello_comes_once_and_first(first: wire.Frame) -> None:
    machine = stream()
    hear(machine, first)
    if isinstance(first, StatementFrame):
        reply(machine)
    (reset,) = hear(machine, HelloFrame(b"theirs"))
    assert isinstance(reset, ResetStream) and machine.phase is Phase.ENDED


def test_frames_of_unknown_kinds_are_ignored_up_to_a_limit() -> None:
    machine = stream()
    for _ in range(wire.MAX_UNKNOWN - 1):
        assert hear(machine, UnknownFrame(9)) == []
    assert hear(machine, HelloFrame(b"theirs")) == [OUR_HELLO, DeliverHello(b"theirs")]
    assert hear(machine, UnknownFrame(9)) == []
    (reset,) = hear(machine, UnknownFrame(9))
    assert isinstance(reset, ResetStream) and machine.phase is Phase.ENDED


def test_an_acknowledgement_is_no_frame_of_the_opener() -> None:
    machine = stream()
    (reset,) = hear(machine, AcknowledgementFrame(0, OK))
    assert isinstance(reset, ResetStream) and machine.phase is Phase.ENDED


def test_nothing_is_read_while_a_statement_is_received_or_after_the_end() -> None:
    machine = stream()
    hear(machine, StatementFrame(0, b"one"))
    with pytest.raises(Internal):
        hear(machine, StatementFrame(1, b"two"))
    reply(machine)
    with pytest.raises(Internal):
        reply(machine)
    hear(machine, AcknowledgementFrame(0, OK))
    with pytest.raises(Internal):
        hear(machine, UnknownFrame(9))


def test_the_table_has_every_phase() -> None:
    assert set(PHASES) == set(Phase)
    assert {phase for steps in PHASES.values() for phase in steps.values()} == set(Phase)
    assert repr(stream()) == "InboundStream(5, opened)"
