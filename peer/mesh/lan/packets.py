"""Beacons and questions for them as mDNS packets (RFC 6762, RFC 6763). What strangers send is judged here first.

A packet of ours has the records of one beacon and nothing else. No addresses: whoever reads it knows where it came
from. The names in it are random, and another beacon has others.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from zeroconf import DNSIncoming, DNSOutgoing, DNSPointer, DNSQuestion, DNSService, DNSText

from peer.protocol import lan

PORT: Final = 5353
GROUP_IPV4: Final = "224.0.0.251"
GROUP_IPV6: Final = "ff02::fb"

SERVICE: Final = "_dispatch-lan._tcp.local."
MAX_PACKET: Final = 1_400
"""Bytes: what an Ethernet, a Wi-Fi and most tunnels carry whole. A longer packet is none of ours."""

_SIGN: Final = b"\x0d_dispatch-lan"
_IN: Final = 1
_UNIQUE: Final = 1 | 0x8000
_PTR, _TXT, _SRV = 12, 16, 33
_ANSWER: Final = 0x8400
_SHORT: Final = 120
"""Seconds for which others may keep a beacon's records; we keep them by our own measure (sightings.py)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A beacon that came in, of nobody known yet."""

    port: int
    nonce: bytes
    marks: frozenset[bytes]


class Asked:
    """A question for beacons."""


def new_name() -> str:
    """Return the name of a beacon, of its service and of its host alike."""
    return secrets.token_hex(8)


def beacon(name: str, port: int, nonce: bytes, marks: tuple[bytes, ...]) -> bytes:
    """Return the packet of a beacon, at most MAX_PACKET bytes."""
    instance = f"{name}.{SERVICE}"
    packet = DNSOutgoing(_ANSWER)
    packet.add_answer_at_time(DNSPointer(SERVICE, _PTR, _IN, _SHORT, instance), 0)
    packet.add_answer_at_time(DNSService(instance, _SRV, _UNIQUE, _SHORT, 0, 0, port, f"{name}.local."), 0)
    packet.add_answer_at_time(DNSText(instance, _TXT, _UNIQUE, _SHORT, lan.text(nonce, marks)), 0)
    return _only(packet)


def farewell(name: str) -> bytes:
    """Return the packet by which a beacon is taken back."""
    packet = DNSOutgoing(_ANSWER)
    packet.add_answer_at_time(DNSPointer(SERVICE, _PTR, _IN, 0, f"{name}.{SERVICE}"), 0)
    return _only(packet)


def question() -> bytes:
    """Return the packet that asks for beacons."""
    packet = DNSOutgoing(0)
    packet.add_question(DNSQuestion(SERVICE, _PTR, _IN))
    return _only(packet)


def concerns_us(packet: bytes) -> bool:
    """Return whether a packet names our service at all. Almost none does; it costs next to nothing to tell."""
    return len(packet) <= MAX_PACKET and _SIGN in packet.lower()


def read(packet: bytes) -> Seen | Asked | None:
    """Return what a packet that concerns us says, None if that is nothing."""
    try:
        found = DNSIncoming(packet)
        if not found.valid:
            return None
        if found.is_query():
            asks = any(each.type == _PTR and each.name.lower() == SERVICE for each in found.questions)
            return Asked() if asks else None
        return _seen(found)
    except Exception:  # whatever a stranger's bytes do to the library that reads them
        return None


def _seen(packet: DNSIncoming) -> Seen | None:
    records = packet.answers()
    service = next((each for each in records if isinstance(each, DNSService)), None)
    if service is None or not service.ttl or not service.port or not service.name.lower().endswith("." + SERVICE):
        return None
    text = next((each for each in records if isinstance(each, DNSText) and each.name == service.name), None)
    if text is None:
        return None
    nonce, marks = lan.read_text(text.text)
    return Seen(service.port, nonce, marks)


def _only(packet: DNSOutgoing) -> bytes:
    (data,) = packet.packets()
    assert len(data) <= MAX_PACKET
    return bytes(data)
