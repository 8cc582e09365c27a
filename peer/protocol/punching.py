"""What two devices say to each other over a relay so that both dial at one instant, and what a relay tells them. Pure.

One stream of `/dispatch/punch/1` is one attempt: Offer from who proposes it, Offer from the other, Ready, Go. How and
when is dialled: peer/mesh/punching. Room to grow as in the messages to a relay: ignorable keys (growth.py) are ignored,
any other key that is not listed makes a message invalid.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from peer.protocol import fields as f
from peer.protocol.codec import Malformed, Value
from peer.protocol.fields import Field, Form

PROTOCOL: Final = "/dispatch/punch/1"
MAX_ENDPOINTS: Final = 4
"""Of one Offer; a device has two today, one of each family."""
MAX_MESSAGE: Final = 256
"""Bytes of a message."""
FIRST_PORT: Final = 1024
"""A NAT maps the port of a program to none below (RFC 5382, 7.1); services that everybody runs are there."""

ADDRESS_PATH: Final = "/v1/address"
"""Where a relay answers a GET with the address and the port that the connection comes from."""
MAX_SEEN: Final = 256
"""Bytes of that answer."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where connections from one port of a device come from, as others see it."""

    address: IPv4Address | IPv6Address
    port: int


@dataclass(frozen=True, slots=True)
class Offer:
    """The endpoints that a device dials from, and is to be dialled at, once. None: it has none."""

    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """The answer to an Offer, at once: how long it took is the round trip."""


@dataclass(frozen=True, slots=True)
class Go:
    """Dial now. Who sends it dials half a round trip later."""


Message: TypeAlias = Offer | Ready | Go


def _address(packed: object) -> IPv4Address | IPv6Address:
    if type(packed) is not bytes or len(packed) not in (4, 16):
        raise Malformed("must be an IP address of 4 or 16 bytes")
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


_ADDRESS: Final = Form("bstr .size 4 / bstr .size 16", lambda address: address.packed, _address)
_ENDPOINT: Final = f.record(
    Endpoint, {"address": Field(1, _ADDRESS), "port": Field(2, f.number(65535, least=FIRST_PORT))}
)
_FORMS: Final[dict[type[Message], Form]] = {
    Offer: f.record(Offer, {"endpoints": Field(1, f.array(_ENDPOINT, MAX_ENDPOINTS))}),
    Ready: f.record(Ready, {}),
    Go: f.record(Go, {}),
}
_KIND: Final = 0


def pack(message: Message) -> Value:
    """Return the CBOR value of a message. Raises Invalid for a value beyond its bound."""
    kind = list(_FORMS).index(type(message))
    return {_KIND: kind, **_FORMS[type(message)].pack(message)}


def unpack(value: Value) -> Message:
    """Parse a message. Raises Invalid."""
    match value:
        case {0: int(kind)} if type(kind) is int and 0 <= kind < len(_FORMS):
            form = list(_FORMS.values())[kind]
        case _:
            raise Malformed("that is not a message of an attempt")
    assert isinstance(value, dict)
    found: Message = form.unpack({key: content for key, content in value.items() if key != _KIND})
    return found


def seen_text(endpoint: Endpoint) -> str:
    """Return what a relay answers whose connection comes from there."""
    return json.dumps({"address": str(endpoint.address), "port": endpoint.port})


def parse_seen(raw: bytes) -> Endpoint:
    """Parse a relay's answer. Raises Malformed."""
    try:
        match json.loads(raw):
            case {"address": str(address), "port": int(port)} if type(port) is int and 0 < port <= 65535:
                return Endpoint(ipaddress.ip_address(address), port)
    except (ValueError, RecursionError):
        pass
    raise Malformed("that is not an address and port")
