"""What a pipe passes on, beside what wsproto makes of the same bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage, Event, Ping
from wsproto.frame_protocol import CloseReason

from rendezvous.relay.pieces import Pieces, Refused

LARGEST, FRAGMENTS = 70_000, 4
SIZES = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, LARGEST])


def fragments_of(size: int, number: int) -> list[int]:
    return [size // number + (at < size % number) for at in range(number)]


messages = st.builds(fragments_of, SIZES, st.integers(1, FRAGMENTS))
"""Sizes of the frames of one message."""


def taken(pieces: Pieces, sent: bytes, cuts: list[int], at_most: int) -> tuple[bytes, list[int], bytes]:
    """Read all of `sent` in parts; return what goes to the other end, the sizes of its payloads, and what is left."""
    passed, sizes, rest, lengths = bytearray(), [], bytearray(), itertools.cycle(cuts)
    while sent:
        part = sent[: next(lengths)]
        found = pieces.take(part, at_most)
        assert 0 < found.size <= len(part) and found.frames <= at_most
        for frame, size in found.pieces:
            passed += frame
            sizes.append(size)
        rest += found.rest
        sent = sent[found.size :]
    return bytes(passed), sizes, bytes(rest)


def events_of(role: ConnectionType, received: bytes) -> list[Event]:
    connection = Connection(role)
    connection.receive_data(received)
    return list(connection.events())


def payloads(events: list[Event]) -> list[bytes]:
    """The payload of each message."""
    found, whole = [], bytearray()
    for event in events:
        assert isinstance(event, BytesMessage)
        whole += event.data
        if event.message_finished:
            found.append(bytes(whole))
            whole.clear()
    assert not whole
    return found


@given(
    st.lists(messages | st.binary(max_size=125), max_size=6),
    st.lists(st.integers(1, 90_000) | st.integers(1, 20), min_size=1, max_size=20),
    st.integers(1, 3),
    st.data(),
)
def test_the_other_end_gets_what_was_sent_and_pings_are_left(
    sent: list[list[int] | bytes], cuts: list[int], at_most: int, data: st.DataObject
) -> None:
    """Between the fragments of a message there are pings too. Seen to fail with the mask of the frame before."""
    client, raw = Connection(ConnectionType.CLIENT), bytearray()
    whole, pings, sizes = [], [], []
    for each in sent:
        if isinstance(each, bytes):
            raw += client.send(Ping(each))
            pings.append(each)
            continue
        content = [
            data.draw(st.binary(min_size=size, max_size=size) if size < 200 else st.just(b"\xa5" * size))
            for size in each
        ]
        for number, part in enumerate(content, 1):
            raw += client.send(BytesMessage(part, message_finished=number == len(content)))
            raw += client.send(Ping(b"between"))
            pings.append(b"between")
        whole.append(b"".join(content))
        sizes += each
    passed, found, rest = taken(Pieces(largest=LARGEST, fragments=FRAGMENTS), bytes(raw), cuts, at_most)
    assert payloads(events_of(ConnectionType.CLIENT, passed)) == whole and found == sizes
    left = events_of(ConnectionType.SERVER, rest)
    assert [bytes(event.payload) for event in left if isinstance(event, Ping)] == pings and len(left) == len(pings)


def frame(size: int, first: int, *, masked: bool = True) -> bytes:
    """The header of a frame with an eight-byte length (a header alone is refused), or a small whole frame."""
    mask = 0x80 if masked else 0
    key = bytes(4) if masked else b""
    if size < 126:
        return bytes([first, mask | size]) + key + bytes(size)
    return bytes([first, mask | 127]) + size.to_bytes(8, "big") + key


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frame(1, 0x81), CloseReason.UNSUPPORTED_DATA),
        (frame(1, 0x82, masked=False), CloseReason.PROTOCOL_ERROR),
        (frame(1, 0xC2), CloseReason.PROTOCOL_ERROR),
        (frame(1, 0x83), CloseReason.PROTOCOL_ERROR),
        (frame(1, 0x80), CloseReason.PROTOCOL_ERROR),
        (frame(1, 0x02) + frame(1, 0x82), CloseReason.PROTOCOL_ERROR),
        (frame(1, 0x09), CloseReason.PROTOCOL_ERROR),
        (frame(126, 0x89), CloseReason.PROTOCOL_ERROR),
        (frame(LARGEST + 1, 0x82), CloseReason.MESSAGE_TOO_BIG),
        (frame(2**63, 0x82), CloseReason.MESSAGE_TOO_BIG),
        (frame(1, 0x02) + frame(LARGEST, 0x80), CloseReason.MESSAGE_TOO_BIG),
        (frame(0, 0x02) + frame(0, 0x00) * FRAGMENTS, CloseReason.PROTOCOL_ERROR),
    ],
)
def test_what_has_no_place_in_a_pipe_is_refused_by_its_header(raw: bytes, code: CloseReason) -> None:
    """Text, no mask, reserved bits, unknown opcodes, opcodes out of turn, too much. Seen to fail one by one."""
    pieces = Pieces(largest=LARGEST, fragments=FRAGMENTS)
    with pytest.raises(Refused) as refused:
        pieces.take(raw, 1000)
    assert refused.value.code == code and refused.value.reason
    one_by_one = Pieces(largest=LARGEST, fragments=FRAGMENTS)
    with pytest.raises(Refused):
        for byte in raw:
            one_by_one.take(bytes([byte]), 1)


@given(st.binary(max_size=300), st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_any_bytes_are_taken_or_refused_and_not_kept_beyond_a_frame(raw: bytes, cuts: list[int]) -> None:
    """Nothing but Refused is raised, and cutting the same bytes otherwise changes nothing."""
    outcomes = []
    for lengths in (cuts, [len(raw) or 1]):
        try:
            outcomes.append(taken(Pieces(largest=LARGEST, fragments=FRAGMENTS), raw, lengths, 1000))
        except Refused as refused:
            outcomes.append((b"", [refused.code], refused.reason.encode()))
    assert outcomes[0] == outcomes[1]
