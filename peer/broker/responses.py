"""The values in a broker's responses and strict readers of them from JSON: a broker is not trusted. No I/O.

The readers raise Invalid, KeyError, TypeError or ValueError for a malformed document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast
from urllib.parse import urlsplit

from peer.protocol import base64url, names
from peer.protocol.documents import Document
from peer.protocol.errors import NO_FIX, DispatchError, Invalid
from peer.protocol.relays.addresses import MAX_RELAYS, is_loopback, relay_origin
from peer.protocol.relays.admission import TOKEN_LIFE_MS
from peer.protocol.relays.messages import MAX_TOKEN

MAX_NAMED_RELAYS = 64
"""Entries that are looked at: a later version may name more than MAX_RELAYS, or some that this one cannot use."""


@dataclass(frozen=True, slots=True)
class LoginPrompt:
    """What a person needs in order to approve a sign-in (RFC 8628 3.2). Times in seconds."""

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


@dataclass(frozen=True, slots=True)
class LoginToken:
    """An approved sign-in."""

    access_token: str = field(repr=False)
    user_id: str
    expires_in: int


@dataclass(frozen=True, slots=True)
class SealedPresence:
    """One device's announcement at the broker; open `box` with peer.broker.presence. `expires` in ms."""

    device: str
    seq: int
    expires: int
    box: bytes


@dataclass(frozen=True, slots=True)
class PostedInvitation:
    """The result of posting an invitation. `existing`: an earlier one was open, and `token` is its token."""

    token: str
    to: str
    emailed: bool
    existing: bool


@dataclass(frozen=True, slots=True)
class BrokerInvitation:
    """An invitation at the broker. `statement` is not verified yet; `sealed` is the answer, sealed to this device.

    Of one that was sent from here: whether the mail server took its mail, and when (ms) a device of the invitee first
    fetched it; both None where the broker does not say.
    """

    token: str
    inviter: str
    invitee: str
    status: Literal["pending", "accepted", "declined", "withdrawn", "expired"]
    created: int
    expires: int
    statement: bytes
    answered: int | None
    sealed: bytes | None
    mailed: bool | None = None
    fetched: int | None = None


@dataclass(frozen=True, slots=True)
class Invitations:
    """Invitations changed after the requested version. `more`: request again from `version` at once.

    `announced`: the `seq` of the announcement that the broker has of this device, 0 for none; None where it does not
    say, as an older one.
    """

    version: int
    more: bool
    sent: list[BrokerInvitation]
    received: list[BrokerInvitation]
    announced: int | None = None


@dataclass(frozen=True, slots=True)
class RelayAccess:
    """What admits this device to relays that trust the broker, and the relays that the broker names.

    `token` is as the broker made it. `expires`: ms since the epoch by the broker's clock, at most TOKEN_LIFE_MS ahead;
    it may be past, so whoever renews bounds how often. `relays`: origins in their one form, at most MAX_RELAYS. Where
    they lead is not checked here: their resolved addresses have to obey the rule on dialling.
    """

    token: bytes = field(repr=False)
    expires: int
    relays: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Health:
    """A broker's description of itself."""

    origin: str
    dev: bool
    mail: bool


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response with its whole body."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def document(self) -> Document | None:
        """Return the JSON object in the body, or None."""
        try:
            document = json.loads(self.content)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None


class OAuthError(DispatchError):
    """An error of RFC 8628 3.5, by its code."""

    default_code = 400

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message, fix=NO_FIX)
        self.error = error


def read_text(document: Mapping[str, object], name: str) -> str:
    """Return a member that is text of at most 8,192 characters."""
    value = document[name]
    if not isinstance(value, str) or len(value) > 8192:
        raise Invalid(f"{name} is not text", fix=NO_FIX)
    return value


def read_bytes(document: Mapping[str, object], name: str) -> bytes:
    """Return the bytes of a member in base64url."""
    value = document[name]
    if not isinstance(value, str):
        raise Invalid(f"{name} is not text", fix=NO_FIX)
    return base64url.decode(value)


def read_number(document: Mapping[str, object], name: str) -> int:
    """Return a member that is a whole number below 2^53."""
    value = document[name]
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise Invalid(f"{name} is not a number", fix=NO_FIX)
    return value


def read_list(document: Mapping[str, object], name: str, most: int) -> list[Document]:
    """Return a member that is a list of at most `most` objects."""
    value = document[name]
    if not isinstance(value, list) or len(value) > most:
        raise Invalid(f"{name} is not a list", fix=NO_FIX)
    return value


def read_device(entry: Mapping[str, object]) -> str:
    """Return the peer id in the member `device`."""
    device = read_text(entry, "device")
    names.peer_id_bytes(device)
    return device


def read_prompt(document: Mapping[str, object], url: str) -> LoginPrompt:
    """Return a checked prompt: pages at the broker `url` itself, a code of letters and digits, clamped times."""
    user_code = read_text(document, "user_code")
    pages = [read_text(document, name) for name in ("verification_uri", "verification_uri_complete")]
    if not re.fullmatch(r"[A-Z0-9-]{4,32}", user_code):
        raise Invalid("user_code is not a code", fix=NO_FIX)
    if not all(page.startswith(f"{url}/") and re.fullmatch(r"[\x21-\x7e]{1,1024}", page) for page in pages):
        raise Invalid("the page is not the broker's own", fix=NO_FIX)
    expires_in, interval = read_number(document, "expires_in"), read_number(document, "interval")
    return LoginPrompt(
        device_code=read_text(document, "device_code"),
        user_code=user_code,
        verification_uri=pages[0],
        verification_uri_complete=pages[1],
        expires_in=min(expires_in, 3600),
        interval=min(max(1, interval), 60),
    )


def read_invitation(entry: Mapping[str, object]) -> BrokerInvitation:
    """Return an invitation; its statement is not verified here."""
    token, status = read_text(entry, "token"), read_text(entry, "status")
    names.uuid_bytes(token)
    if status not in ("pending", "accepted", "declined", "withdrawn", "expired"):
        raise Invalid("an unknown status", fix=NO_FIX)
    return BrokerInvitation(
        token=token,
        inviter=names.user_id(read_text(entry, "from")),
        invitee=names.user_id(read_text(entry, "to")),
        status=cast(Literal["pending", "accepted", "declined", "withdrawn", "expired"], status),
        created=read_number(entry, "created"),
        expires=read_number(entry, "expires"),
        statement=read_bytes(entry, "statement"),
        answered=None if entry["answered"] is None else read_number(entry, "answered"),
        sealed=None if entry["sealed"] is None else read_bytes(entry, "sealed"),
        mailed=None if entry.get("mailed") is None else entry["mailed"] is True,
        fetched=None if entry.get("fetched") is None else read_number(entry, "fetched"),
    )


def read_relay_access(document: Mapping[str, object], *, broker: str, now: int) -> RelayAccess:
    """Return a token of at most MAX_TOKEN bytes and the relays that the broker at the URL `broker` names.

    What is no relay's origin is left out, and so is one on this machine unless the broker itself is: a broker must not
    have its users' devices connect to their own ports.
    """
    token, named = read_bytes(document, "token"), document["relays"]
    if not 0 < len(token) <= MAX_TOKEN:
        raise Invalid("token is empty or too long", fix=NO_FIX)
    if not isinstance(named, list) or len(named) > MAX_NAMED_RELAYS:
        raise Invalid("relays is not a list", fix=NO_FIX)
    beside_us = is_loopback(urlsplit(broker).hostname or "")
    found: dict[str, None] = {}
    for text in named:
        try:
            origin = relay_origin(text) if isinstance(text, str) else ""
        except Invalid:
            continue
        if origin and (beside_us or not is_loopback(urlsplit(origin).hostname or "")):
            found[origin] = None
    expires = min(read_number(document, "expires"), now + TOKEN_LIFE_MS)
    return RelayAccess(token, expires, tuple(found)[:MAX_RELAYS])
