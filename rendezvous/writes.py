"""Verifying a signed write: a `broker-request` for this origin, this action and about now. Pure; nonces: storage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from peer.protocol import base64url, codec
from peer.protocol.codec import Malformed
from peer.protocol.errors import Forbidden, Invalid
from peer.protocol.signing import open_as
from peer.protocol.statements import BrokerRequest
from rendezvous.storage.rows import Author, Caller

WINDOW_MS = 5 * 60 * 1000
"""How far a request's time may be off, either way: a replay is refused by its nonce until then, by its time after."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Write:
    """A verified request: user id and peer id as the statement has them, nonce, arguments.

    Whether the device is that user's, and the nonce unused, is checked by storage. `digest` is SHA-256 of the
    arguments' bytes, by which the same arguments in a second request are recognised.
    """

    user_id: str
    device: str
    nonce: str
    nonce_expires: int
    arguments: Mapping[str, object]
    digest: bytes

    @property
    def author(self) -> Author:
        """Who writes, for the storage operation that carries the request out."""
        return Author(self.user_id, self.device, self.nonce, self.nonce_expires)

    @property
    def caller(self) -> Caller:
        """The same device, for a read on the way there."""
        return Caller(self.user_id, self.device)

    def take(self, name: str, kind: type[T], accepts: Callable[[T], bool] = lambda _value: True) -> T:
        """Return the argument `name`, which must be exactly of this type. Raises Invalid."""
        value = self.arguments.get(name)
        if type(value) is not kind or not accepts(value):
            raise Invalid(f"the argument {name} is missing or has the wrong form", fix="update dispatch")
        return value


def open_write(document: object, *, origin: str, action: str, names: frozenset[str], now: int) -> Write:
    """Verify {"statement": base64url} and return the request in it.

    Raises Invalid (form), BadSignature, and Forbidden for another origin, another action or a time outside ±5 min.
    """
    if not isinstance(document, dict) or set(document) != {"statement"} or not isinstance(document["statement"], str):
        raise Invalid('the body must be {"statement": base64url of a signed broker-request}', fix="update dispatch")
    request, _ = open_as(BrokerRequest, base64url.decode(document["statement"]))
    if request.origin != origin:
        raise Forbidden(
            f"that request was signed for another broker; this one is {origin}",
            fix=f"`dispatch login --broker {origin}`",
        )
    if request.action != action:
        raise Forbidden(f"that request was signed for another action, not for {action}", fix="update dispatch")
    off = request.created - now
    if abs(off) > WINDOW_MS:
        way = "ahead of" if off > 0 else "behind"
        raise Forbidden(
            f"the request's time is {abs(off) // 1000} s {way} the broker's clock", fix="set this machine's clock"
        )
    arguments = codec.decode(request.arguments)
    if not isinstance(arguments, dict) or set(arguments) != names:
        raise Malformed(f"the arguments of {action} are {', '.join(sorted(names))}")
    return Write(
        user_id=request.issuer_user,
        device=request.issuer_device,
        nonce=request.id,
        nonce_expires=request.created + 2 * WINDOW_MS,
        arguments={str(name): value for name, value in arguments.items()},
        digest=hashlib.sha256(request.arguments).digest(),
    )
