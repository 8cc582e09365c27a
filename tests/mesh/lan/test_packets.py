"""Packets on the local network: ours are mDNS as others read it; what comes is a beacon, a question or nothing."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf import DNSIncoming, DNSOutgoing, DNSPointer, DNSService, DNSText

from peer.mesh.lan import packets
from peer.mesh.lan.packets import Asked, Seen
from peer.protocol import lan

NONCE = bytes(range(16))
MARKS = tuple(bytes([number]) * lan.MARK_BYTES for number in range(lan.STEP))
NAME = "0123456789abcdef"
BEACON = packets.beacon(NAME, 40_123, NONCE, MARKS)


def test_a_beacon_is_read_back() -> None:
    assert packets.concerns_us(BEACON)
    assert packets.read(BEACON) == Seen(40_123, NONCE, frozenset(MARKS))


def test_a_beacon_is_a_service_as_others_browse_it() -> None:
    """PTR to SRV and TXT, with random names and no address record."""
    records = DNSIncoming(BEACON).answers()
    assert [type(each) for each in records] == [DNSPointer, DNSService, DNSText]
    pointer, service, text = records
    assert isinstance(pointer, DNSPointer) and isinstance(service, DNSService)
    assert pointer.name == packets.SERVICE and pointer.alias == service.name == text.name == f"{NAME}.{packets.SERVICE}"
    assert service.server == f"{NAME}.local." and (service.priority, service.weight) == (0, 0)
    assert all(each.ttl == 120 for each in records)


def test_the_largest_beacon_fits_into_a_packet() -> None:
    marks = lan.padded([os.urandom(lan.MARK_BYTES) for _ in range(1_000)])
    beacon = packets.beacon(packets.new_name(), 65_535, os.urandom(16), marks)
    assert len(beacon) <= 1_200 and len(marks) == lan.MAX_MARKS
    assert packets.read(beacon) is not None


def test_a_question_is_one_and_a_farewell_is_no_beacon() -> None:
    assert isinstance(packets.read(packets.question()), Asked) and packets.concerns_us(packets.question())
    assert packets.read(packets.farewell(NAME)) is None


def test_names_are_read_in_any_case() -> None:
    shouted = packets.question().replace(b"_dispatch-lan", b"_DISPATCH-LAN")
    assert packets.concerns_us(shouted) and isinstance(packets.read(shouted), Asked)


def altered(
    *, port: int = 1, ttl: int = 120, name: str = f"x.{packets.SERVICE}", text: str = "", content: bytes
) -> bytes:
    packet = DNSOutgoing(0x8400)
    packet.add_answer_at_time(DNSService(name, 33, 1, ttl, 0, 0, port, "x.local."), 0)
    packet.add_answer_at_time(DNSText(text or name, 16, 1, ttl, content), 0)
    return packet.packets()[0]


@pytest.mark.parametrize(
    "packet",
    [
        altered(port=0, content=lan.text(NONCE, MARKS)),
        altered(ttl=0, content=lan.text(NONCE, MARKS)),
        altered(name="x._other._tcp.local.", content=lan.text(NONCE, MARKS)),
        altered(text=f"y.{packets.SERVICE}", content=lan.text(NONCE, MARKS)),
        altered(content=b""),
        altered(content=lan.text(NONCE, MARKS)[:-1]),
        altered(content=lan.text(NONCE, MARKS) + b"\x01x" * 600),
        b"",
        b"\0" * 12,
        BEACON[:40],
    ],
)
def test_what_is_not_a_whole_beacon_is_nothing(packet: bytes) -> None:
    assert packets.read(packet) is None


def test_a_text_that_is_too_long_is_not_even_looked_at() -> None:
    assert not packets.concerns_us(BEACON + bytes(packets.MAX_PACKET))


@given(st.binary(max_size=1_400))
def test_any_bytes_are_read_without_a_fault(packet: bytes) -> None:
    assert packets.read(packet) is None or packets.concerns_us(packet)


@given(
    st.lists(st.tuples(st.integers(0, len(BEACON) - 1), st.integers(0, 255)), max_size=8), st.integers(0, len(BEACON))
)
def test_a_damaged_beacon_is_read_without_a_fault(changes: list[tuple[int, int]], end: int) -> None:
    packet = bytearray(BEACON)
    for at, value in changes:
        packet[at] = value
    found = packets.read(bytes(packet[:end]))
    if isinstance(found, Seen):
        assert 0 < found.port < 65_536 and len(found.nonce) == 16 and len(found.marks) <= lan.MAX_MARKS
