"""The messages on a connection between a device and a relay, between typed values and CBOR. Pure.

Each is one binary WebSocket message: a map in deterministic CBOR whose key 0 is its kind. On the control connection
come, in this order, Challenge, Proof, Welcome; then Listen, Ring, Renewal and Probe from the device, Ticket, Incoming,
Refusal and Probed from the relay, in any order. On the connection of a pipe come Join and Joined; every message after
these is a piece of the pipe's bytes, and no message of this module.

Room to grow: a message of a higher kind is an Unknown and is ignored. Ignorable keys (growth.py) are ignored in all of
them; any other key that is not listed makes the message invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from peer.protocol import codec
from peer.protocol import fields as f
from peer.protocol.codec import Malformed
from peer.protocol.fields import Field, Form

SUBPROTOCOL: Final = "dispatch-relay.1"
CONTROL_PATH: Final = "/v1/control"
PIPE_PATH: Final = "/v1/pipe"

MAX_MESSAGE: Final = 64 * 1024
"""Bytes: a Listen with MAX_TAGS tags takes 18 kB."""
MAX_PIECE: Final = 256 * 1024
"""Bytes of one message of a pipe."""
MAX_TAGS: Final = 1024
"""Devices of contacts that may ring a device, as many as can read its presence."""
MAX_RING: Final = 512
"""Bytes of the sealed part of a ring."""
MAX_TOKEN: Final = 1024
MAX_ORIGIN: Final = 300
MAX_ADDRESS: Final = 45
"""Characters of an IP address."""

CHALLENGE_BYTES: Final = 32
TAG_BYTES: Final = 16
TICKET_BYTES: Final = 16

PROBE_LINE: Final = b"dispatch relay probe 1\n"
"""What a relay sends first where it dials a device back, before the bytes of a Probed. No protocol of libp2p begins so:
the first byte there is the length of a line, 19."""
PROBE_BYTES: Final = 16

_TAG, _TICKET = f.blob(TAG_BYTES, TAG_BYTES), f.blob(TICKET_BYTES, TICKET_BYTES)
_RING = f.blob(1, MAX_RING)
_NUMBER = f.number((1 << 32) - 1)
_PORT = f.number(65535, least=1)


@dataclass(frozen=True, slots=True)
class Challenge:
    """From the relay, first: fresh random bytes, and the origin that it has for its clients."""

    nonce: bytes
    origin: str


@dataclass(frozen=True, slots=True)
class Proof:
    """From the device: who it is, its signature (admission.sign_proof), and what admits it, b"" for nothing."""

    device: str
    signature: bytes
    token: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The device is admitted, for `seconds`, or until a Renewal; 0 for as long as it is connected."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Listen:
    """From the device: the tags at which it is rung, in place of those that it named before."""

    tags: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Ring:
    """From the device: announce a pipe at a tag. `number` is the device's own, for the answer to it."""

    number: int
    tag: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Renewal:
    """From the device: what admits it from now on."""

    token: bytes


@dataclass(frozen=True, slots=True)
class Ticket:
    """To whoever rang: the place of its pipe. It comes whether or not anybody listens at the tag."""

    number: int
    ticket: bytes


@dataclass(frozen=True, slots=True)
class Incoming:
    """To whoever listens at a tag: a ring, and the place of its pipe."""

    tag: bytes
    sealed: bytes
    ticket: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """To whoever rang: a bound of its own is passed; `code` as in HTTP."""

    number: int
    code: int


@dataclass(frozen=True, slots=True)
class Join:
    """From a device, first on the connection of a pipe."""

    ticket: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """The other side of the pipe is there too."""


@dataclass(frozen=True, slots=True)
class Probe:
    """From the device: dial the address that this connection comes from, at a port. `number` as in Ring."""

    number: int
    port: int


@dataclass(frozen=True, slots=True)
class Probed:
    """To whoever sent a Probe, once it is over: the address, as text, and what the relay sent there.

    Whether that came is for the device to say, which alone knows: what answers there may be another machine.
    """

    number: int
    address: str
    sent: bytes


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message of a kind that this version does not know. Only received, never sent."""

    kind: int


OwnMessage: TypeAlias = (
    Challenge | Proof | Welcome | Listen | Ring | Renewal | Ticket | Incoming | Refusal | Join | Joined | Probe | Probed
)
Message: TypeAlias = OwnMessage | Unknown

FORMS: Final[tuple[tuple[type[OwnMessage], dict[str, Field]], ...]] = (
    (
        Challenge,
        {"nonce": Field(1, f.blob(CHALLENGE_BYTES, CHALLENGE_BYTES)), "origin": Field(2, f.text(MAX_ORIGIN))},
    ),
    (
        Proof,
        {"device": Field(1, f.DEVICE), "signature": Field(2, f.blob(64, 64)), "token": Field(3, f.blob(0, MAX_TOKEN))},
    ),
    (Welcome, {"seconds": Field(1, _NUMBER)}),
    (Listen, {"tags": Field(1, f.array(_TAG, MAX_TAGS))}),
    (Ring, {"number": Field(1, _NUMBER), "tag": Field(2, _TAG), "sealed": Field(3, _RING)}),
    (Renewal, {"token": Field(1, f.blob(1, MAX_TOKEN))}),
    (Ticket, {"number": Field(1, _NUMBER), "ticket": Field(2, _TICKET)}),
    (Incoming, {"tag": Field(1, _TAG), "sealed": Field(2, _RING), "ticket": Field(3, _TICKET)}),
    (Refusal, {"number": Field(1, _NUMBER), "code": Field(2, f.number(599))}),
    (Join, {"ticket": Field(1, _TICKET)}),
    (Joined, {}),
    (Probe, {"number": Field(1, _NUMBER), "port": Field(2, _PORT)}),
    (
        Probed,
        {
            "number": Field(1, _NUMBER),
            "address": Field(2, f.text(MAX_ADDRESS)),
            "sent": Field(3, f.blob(PROBE_BYTES, PROBE_BYTES)),
        },
    ),
)
"""Class and fields of each message, in the order of their kinds. A published kind and key keep their meaning."""

_KIND: Final = 0
_BY_KIND: Final[tuple[Form, ...]] = tuple(f.record(kind, table) for kind, table in FORMS)
_KIND_OF: Final = {kind: number for number, (kind, _) in enumerate(FORMS)}


def encode(message: OwnMessage) -> bytes:
    """Return the bytes of a message. Raises Invalid for a value beyond its bound."""
    number = _KIND_OF[type(message)]
    return codec.encode({_KIND: number, **_BY_KIND[number].pack(message)}, max_bytes=MAX_MESSAGE)


def decode(raw: bytes) -> Message:
    """Parse a message. Raises Invalid, TooLarge."""
    value = codec.decode(raw, max_bytes=MAX_MESSAGE)
    match value:
        case {0: kind} if type(kind) is int:
            pass
        case _:
            raise Malformed("a message of a relay is a map with a kind")
    assert isinstance(value, dict)
    if kind >= len(_BY_KIND):
        return Unknown(kind)
    found: Message = _BY_KIND[kind].unpack({key: content for key, content in value.items() if key != _KIND})
    return found
