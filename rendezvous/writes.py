"""Taking a signed write apart: a `broker-request` for this origin, now, for this action. Pure; nonces are storage's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from peer.protocol import base64url, codec
from peer.protocol.codec import Malformed
from peer.protocol.errors import Forbidden, Invalid
from peer.protocol.statements import BrokerRequest, open_as

WINDOW_MS = 5 * 60 * 1000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Write:
    """A checked request: who (user id and peer id as the statement says), which nonce until when, and the arguments.

    Whether the device is that user's is storage's to say. `digest` is SHA-256 over the arguments' bytes, so that the
    same arguments in a second request are recognised.
    """

    user_id: str
    device: str
    nonce: str
    nonce_expires: int
    arguments: Mapping[str, object]
    digest: bytes

    def take(self, name: str, kind: type[T], accepts: Callable[[T], bool] = lambda _value: True) -> T:
        """Return the argument `name`, which must be exactly of this type. Raises Invalid."""
        value = self.arguments.get(name)
        if type(value) is not kind or not accepts(value):
            raise Invalid(f"the argument {name} is missing or not what it must be")
        return value


def open_write(document: object, *, origin: str, action: str, names: frozenset[str], now: int) -> Write:
    """Check {"statement": base64url} and return what it asks.

    Raises Invalid (form), BadSignature, and Forbidden for another origin, another action or a time outside ±5 min.
    """
    if not isinstance(document, dict) or set(document) != {"statement"} or not isinstance(document["statement"], str):
        raise Invalid('the body must be {"statement": base64url of a signed broker-request}')
    request, _ = open_as(BrokerRequest, base64url.decode(document["statement"]))
    if request.origin != origin:
        raise Forbidden(
            f"that request was signed for another broker; this one is {origin}",
            fix=f"`dispatch login --broker {origin}`",
        )
    if request.action != action:
        raise Forbidden(f"that request was signed for another action than {action}", fix="update dispatch")
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
