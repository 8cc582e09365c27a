"""Identifiers of users, devices and statements: user ids, peer ids, UUIDv7. Pure: randomness and time are arguments.

A device is identified by its libp2p peer id: the identity multihash of the protobuf-encoded Ed25519 public key (libp2p
"Peer Ids and Keys" spec), so the id contains the key. On the wire it is these 38 bytes, in JSON and on screens the
base58btc text.
"""

from __future__ import annotations

import re
import uuid
from functools import lru_cache

import base58

from peer.protocol.errors import NO_FIX, Invalid

PEER_ID_PREFIX = bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20))
"""identity multihash (0x00), 36 bytes, protobuf PublicKey{Type: Ed25519 (1), Data: 32 bytes}."""

MAX_USER_ID = 254
"""The longest path of RFC 5321 4.5.3.1.3, without its angle brackets."""

_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_USER_ID = re.compile(rf"(?=.{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


def user_id(text: str) -> str:
    """Return the user id of an e-mail address: stripped and in lower case. Raises Invalid.

    Only ASCII addresses in dot-atom form (RFC 5321), so that two addresses that look alike are the same bytes.
    """
    folded = text.strip(" \t\r\n").lower()
    # `text`, not `folded`: lower() turns the Kelvin sign into a plain k.
    if not text.isascii() or len(folded) > MAX_USER_ID or not _USER_ID.fullmatch(folded):
        raise Invalid(f"{text.strip()[:60]!r} is not an e-mail address", fix=_address_fix(folded))
    return folded


def _address_fix(folded: str) -> str:
    """Return the ASCII form (RFC 5891) of an address that only its domain keeps from being a user id, or an example."""
    name, _, domain = folded.rpartition("@")
    try:
        ascii_form = f"{name}@{domain.encode('idna').decode()}"
    except UnicodeError:
        ascii_form = ""
    if not domain.isascii() and len(ascii_form) <= MAX_USER_ID and _USER_ID.fullmatch(ascii_form):
        return f"write its domain in ASCII: {ascii_form}"
    return "write it like name@example.org"


def peer_id_of(public_key: bytes) -> bytes:
    """Return the 38-byte peer id of a 32-byte Ed25519 public key."""
    if len(public_key) != 32:
        raise Invalid("an Ed25519 public key has 32 bytes", fix=NO_FIX)
    return PEER_ID_PREFIX + public_key


def key_of_peer_id(peer_id: bytes) -> bytes:
    """Return the 32-byte Ed25519 public key inside a 38-byte peer id. Raises Invalid for other kinds of id."""
    if len(peer_id) != 38 or not peer_id.startswith(PEER_ID_PREFIX):
        raise Invalid(
            "not the peer id of an Ed25519 key", fix="copy the whole id: `dispatch whoami` shows this device's"
        )
    return peer_id[len(PEER_ID_PREFIX) :]


def peer_id_text(peer_id: bytes) -> str:
    """Return the base58btc text of a peer id (`12D3Koo…` for Ed25519)."""
    return base58.b58encode(peer_id).decode("ascii")


@lru_cache(maxsize=1024)
def peer_id_bytes(text: str) -> bytes:
    """Return the 38 bytes that a base58btc peer id names. Raises Invalid.

    Cached: each statement names the same few devices, and base58 takes as long as all else that packs a statement.
    """
    if not 50 <= len(text) <= 54:
        raise Invalid("not a peer id", fix="copy the whole id: `dispatch whoami` shows this device's")
    try:
        raw = base58.b58decode(text)
    except ValueError as error:
        raise Invalid("not a peer id", fix="copy the whole id: `dispatch whoami` shows this device's") from error
    key_of_peer_id(raw)
    # base58 ignores trailing white space, so several texts would name one device.
    if peer_id_text(raw) != text:
        raise Invalid("not a peer id", fix="copy the whole id: `dispatch whoami` shows this device's")
    return raw


def uuid7(unix_ms: int, random: bytes) -> str:
    """Return a UUIDv7 (RFC 9562 5.7) as canonical text from milliseconds since the epoch and 10 random bytes."""
    value = unix_ms & ((1 << 48) - 1)
    rand = int.from_bytes(random[:10], "big")
    number = value << 80 | 0x7 << 76 | (rand >> 62 & 0xFFF) << 64 | 0b10 << 62 | rand & ((1 << 62) - 1)
    return str(uuid.UUID(int=number))


def uuid_bytes(text: str) -> bytes:
    """Return the 16 bytes of a canonical UUID text. Raises Invalid."""
    try:
        value = uuid.UUID(text)
    except ValueError as error:
        raise Invalid("that is not an id", fix="an id looks like 0198c0de-1111-7222-8333-444455556666") from error
    if str(value) != text:
        raise Invalid("that is not an id in its canonical form", fix="write it in lower case with four dashes")
    return value.bytes


def uuid_text(raw: bytes) -> str:
    """Return the canonical text of 16 bytes. Raises Invalid."""
    if len(raw) != 16:
        raise Invalid("an id has 16 bytes", fix=NO_FIX)
    return str(uuid.UUID(bytes=raw))
