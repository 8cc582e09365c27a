"""Hellos, the signed list of what a device understands: making our own, storing a peer's. Using them: fitting.py.

A hello goes with a connection, not through the outbox. Each carries a counter that only grows, and the newest of a
device replaces the ones before, so only a later hello can withdraw an advertised feature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from peer.protocol.brokers import mark
from peer.protocol.errors import NO_FIX, Conflict, Forbidden, TooLarge
from peer.protocol.signing import open_as
from peer.protocol.statements import TYPES, Hello
from peer.protocol.table import FEATURES
from peer.steps.transaction import Transaction
from peer.store import contacts, counters, rows

MAX_HELLO: Final = 4_096
"""Bytes of a hello with its signature: room for 64 features with names of a dozen letters, and each type's version. The
courier carries no more (mesh.courier.wire.MAX_HELLO)."""


def make(tx: Transaction, brokers: Sequence[str] = ()) -> bytes:
    """Return this device's hello, with a counter above every earlier one even if the clock was set back.

    `brokers`: the URLs of those that it uses, which contacts recognise who use them too.
    """
    signed = tx.context.sign(
        Hello,
        counter=counters.next_after(tx.db, counters.HELLO, tx.now),
        features=tuple(sorted(set(FEATURES.values()))),
        versions={name: kind.version for name, kind in TYPES.items()},
        brokers=tuple(sorted(mark(tx.context.identity.device, url) for url in brokers)),
    )
    return signed.raw


def brokers_among(device: rows.ContactDevice, urls: Iterable[str]) -> list[str]:
    """Return those of these brokers that a contact's device said it uses."""
    if not device.hello:
        return []
    marks = _marks(device.hello)
    return [url for url in urls if mark(device.device, url) in marks]


@lru_cache(maxsize=256)
def _marks(raw: bytes) -> frozenset[bytes]:
    """Return the marks of brokers in a stored hello. Cached: verifying it takes longer than the rest of a look-up, and
    all contacts are looked up after each wake."""
    hello, _ = open_as(Hello, raw)
    return frozenset(hello.brokers)


def take(tx: Transaction, device: str, raw: bytes) -> None:
    """Store the hello that the connected `device` sent; the stored one again is accepted and changes nothing.

    Raises TooLarge, Malformed, BadSignature; Forbidden if it is another device's or no contact's; Conflict if its
    counter is not above the stored one's.
    """
    if len(raw) > MAX_HELLO:
        raise TooLarge(f"a hello has at most {MAX_HELLO:,} bytes", fix=NO_FIX)
    known = contacts.device(tx.db, device)
    if known is not None and raw and raw == known.hello:
        return  # as at most connections: verified when it was stored
    hello, _ = open_as(Hello, raw)
    if hello.issuer_device != device or known is None or known.user_id != hello.issuer_user:
        raise Forbidden("that hello is of another device, or of another user than the one it is known as", fix=NO_FIX)
    if hello.counter <= known.hello_counter:
        raise Conflict("a newer hello of that device is known", fix=NO_FIX)
    contacts.set_hello(tx.db, device, raw, hello.counter)
