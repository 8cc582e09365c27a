"""The address that carries an invitation's secret, and the proof made with it. States: invitation_lifecycle.py. Pure.

An address is `dispatch:invitation:<token>:<digest>:<secret>:<broker>`, the last three in base64url. The inviter's own
client builds it and the invited person's own client parses it. It is not a web address and contains none, so no
browser, mail program or chat turns part of it into a link that would carry the secret to the broker, not even in a
fragment (`#...`), which the broker's page could read. The inviter shares the address over a channel that the broker
does not control. Checking the digest therefore authenticates the inviter to the invited person, and the proof
authenticates the invited person to the inviter.

An invitation also has a page at its broker, `<broker>/join/<token>`, which says what this is and how to install it. It
names the invitation and proves nothing: there is no secret in its address.
"""

import hashlib
import hmac
from typing import Final
from urllib.parse import urlsplit

import msgspec

from peer.protocol import base64url
from peer.protocol.errors import NO_FIX, Invalid
from peer.protocol.names import uuid_bytes

DIGEST_BYTES: Final = 32
SECRET_BYTES: Final = 32
MAX_BROKER: Final = 400
MAX_ADDRESS: Final = 1_024
SCHEME: Final = "dispatch:invitation:"
PAGE: Final = "/join/"

_LIKE_THIS: Final = "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"
_ADDRESS_FIX: Final = (
    f"a token looks like {_LIKE_THIS}, an address like {SCHEME}{_LIKE_THIS}:…:…:…, "
    f"a link like https://broker.example{PAGE}{_LIKE_THIS}; copy it whole, or see `dispatch invitations`"
)
_AROUND: Final = "<>()[]\"'`“”‘’„‟«»"
"""What mail programs, chats and people put around a link; none of these is in one."""
_COMMANDS: Final = ("dispatch join ", "dispatch accept-invitation ", "dispatch decline-invitation ")


class Address(msgspec.Struct, frozen=True):
    """A parsed address: the broker's URL without a closing slash, the token, the invitation's digest, the secret."""

    broker: str
    token: str
    digest: bytes
    secret: bytes

    def __repr__(self) -> str:  # the secret must not reach a log by accident
        return f"Address(broker={self.broker!r}, token={self.token!r})"


class Token(msgspec.Struct, frozen=True):
    """A bare token: the id of an invitation that came by mail. It authenticates nobody."""

    token: str


class Page(msgspec.Struct, frozen=True):
    """The broker's page about an invitation: the broker's URL, the token. It authenticates nobody."""

    broker: str
    token: str


def page_of(broker: str, token: str) -> str:
    """Return the address of the broker's page about an invitation, which holds no secret."""
    return f"{broker}{PAGE}{token}"


def build_address(broker: str, *, token: str, digest: bytes, secret: bytes) -> str:
    """Return the address to share. `digest` is the invitation's SHA-256, `secret` 32 random bytes. Raises Invalid."""
    if len(digest) != DIGEST_BYTES or len(secret) != SECRET_BYTES:
        raise Invalid("an invitation's digest and secret have 32 bytes each", fix=NO_FIX)
    uuid_bytes(token)
    parts = (token, *map(base64url.encode, (digest, secret, _broker(broker).encode())))
    return SCHEME + ":".join(parts)


def cleaned(text: str) -> str:
    """Return what is meant of a pasted line: without the command before it, and what stands around it."""
    pasted = text.strip().strip(_AROUND).strip().removeprefix("$ ")
    for command in _COMMANDS:
        pasted = pasted.removeprefix(command)
    return pasted.strip().rstrip(".,;").strip(_AROUND).strip()


def parse(text: str) -> Address | Token | Page:
    """Parse what a person pasted: a bare token, an address or the link of a page, also with what `cleaned` takes off.

    Raises Invalid, whose fix shows the forms.
    """
    pasted = cleaned(text)
    if len(pasted) > MAX_ADDRESS:
        raise Invalid(f"an invitation's address has at most {MAX_ADDRESS} characters", fix=_ADDRESS_FIX)
    if pasted.partition(":")[0].lower() in ("http", "https"):
        return _page(pasted)
    if not pasted.startswith(SCHEME):
        return Token(_token(pasted))
    parts = pasted.removeprefix(SCHEME).split(":")
    if len(parts) != 4:
        raise Invalid("malformed token: the address is cut short or has something added", fix=_ADDRESS_FIX)
    token, digest, secret, broker = parts
    return Address(
        broker=_broker(_decode(broker).decode("utf-8", "replace")),
        token=_token(token),
        digest=_decode(digest, DIGEST_BYTES),
        secret=_decode(secret, SECRET_BYTES),
    )


def check_digest(address: Address, invitation: bytes) -> None:
    """Raise Invalid unless `invitation` (the bytes that the broker served) has the digest in the address."""
    if not hmac.compare_digest(hashlib.sha256(invitation).digest(), address.digest):
        raise Invalid(
            "the broker's invitation is not the one that this address was made for",
            fix="accept nothing; ask the inviter for a new one, and tell them that the broker may be lying",
        )


def proof(secret: bytes, *, invitation_digest: bytes, device_set_digest: bytes) -> bytes:
    """HMAC-SHA256(secret, invitation digest ‖ acceptor's device-set digest), RFC 2104: 32 bytes.

    Both digests have a fixed length, so different pairs are different messages.
    """
    if len(secret) != SECRET_BYTES or len(invitation_digest) != DIGEST_BYTES:
        raise Invalid("an invitation's digest and secret have 32 bytes each", fix=NO_FIX)
    if len(device_set_digest) != DIGEST_BYTES:
        raise Invalid("the digest of a device-set has 32 bytes", fix=NO_FIX)
    return hmac.digest(secret, invitation_digest + device_set_digest, "sha256")


def proven(given: bytes, secret: bytes, *, invitation_digest: bytes, device_set_digest: bytes) -> bool:
    """Whether `given` is the `proof` of these values. Compares in constant time."""
    expected = proof(secret, invitation_digest=invitation_digest, device_set_digest=device_set_digest)
    return hmac.compare_digest(given, expected)


def _page(url: str) -> Page:
    broker, found, token = url.rpartition(PAGE)
    if not found:
        raise Invalid("that web address is not an invitation", fix=_ADDRESS_FIX)
    return Page(_broker(broker), _token(token.rstrip("/")))


def _token(text: str) -> str:
    try:
        uuid_bytes(text)
    except Invalid:
        raise Invalid("malformed token: this is not the token of an invitation", fix=_ADDRESS_FIX) from None
    return text


def _broker(url: str) -> str:
    fix = "a broker looks like https://broker.example"
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > MAX_BROKER:
        raise Invalid("the broker's address contains invalid characters, or is too long", fix=fix)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise Invalid("the broker's address cannot be read", fix=fix) from None
    if parts.scheme not in ("http", "https") or not host:
        raise Invalid("the broker's address is not an http or https URL", fix=fix)
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise Invalid("the broker's address may have only a host, a port and a path", fix=fix)
    return url.rstrip("/")


def _decode(text: str, size: int | None = None) -> bytes:
    try:
        raw = base64url.decode(text)
    except Invalid:
        raw = b""
    if not raw or size not in (None, len(raw)):
        raise Invalid("malformed token: the address is cut short or was altered", fix=_ADDRESS_FIX)
    return raw
