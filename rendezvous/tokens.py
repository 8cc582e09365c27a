"""Tokens of a sign-in: JWTs (HS256) with the user and the one device key they are bound to. They open reads only.

Two secrets can be valid at once, so that one is replaced without anybody having to sign in again: the current one
signs, and in place of a token that the fallback signed a device gets a new one at its next read.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jwt

from peer.protocol.errors import Invalid, Unauthorized
from rendezvous.private_files import MIN_TEXT, existing_secret, kept_secret
from rendezvous.storage.rows import Caller

LIFE_SECONDS = 30 * 24 * 3600
LONGEST_SECONDS = 2 * LIFE_SECONDS
"""What a token may have left: one that was issued while the broker's clock was up to a month ahead is renewed, so that
not everybody has to sign in again once the clock is right. Beyond, it would open reads for too long."""
MAX_TOKEN = 4096
REMEMBERED = 50_000
"""Tokens: one for each device that is online. Each takes about 600 bytes."""
SECRET_FILE = "jwt.secret"  # noqa: S105 - a file's name
"""In the data folder."""
FALLBACK_FILE = "jwt.secret.fallback"
"""Beside it while it is being replaced: the one before."""


@dataclass(frozen=True, slots=True)
class TokenSecrets:
    """`current` signs tokens; those that `fallback` signed are taken as well, unless it is empty."""

    current: bytes = field(repr=False)
    fallback: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """The user and device of a valid token; `renewed` is a fresh one once less than half of its life is left (or
    more than all of it, where the clock was set back), or ""."""

    user_id: str
    device: str
    renewed: str = ""

    @property
    def caller(self) -> Caller:
        """Who reads, for a storage operation."""
        return Caller(self.user_id, self.device)


class Tokens:
    """Issues and checks tokens for one origin."""

    def __init__(self, secrets: TokenSecrets, *, origin: str, clock: Callable[[], int]) -> None:
        self._checked: OrderedDict[bytes, tuple[Bearer, int, int]] = OrderedDict()
        self._secrets = secrets
        self._origin = origin
        self._clock = clock

    def issue(self, user_id: str, device: str) -> str:
        """Return a token that lives LIFE_SECONDS; its `cnf` claim (RFC 7800) is the device key's peer id."""
        now = self._clock() // 1000
        claims = {
            "iss": self._origin,
            "aud": self._origin,
            "sub": user_id,
            "iat": now,
            "exp": now + LIFE_SECONDS,
            "cnf": {"kid": device},
        }
        return jwt.encode(claims, self._secrets.current, algorithm="HS256")

    def check(self, authorization: str) -> Bearer:
        """Check an Authorization header. Raises Unauthorized, always with the same fix.

        What was found valid is remembered by its digest for the seconds in which the same would be found.
        """
        if len(authorization) > MAX_TOKEN + len("Bearer "):
            raise self._refused("the Authorization header is not `Bearer TOKEN`")
        digest = hashlib.sha256(authorization.encode("utf-8", "surrogatepass")).digest()
        now = self._clock() // 1000
        if (known := self._checked.get(digest)) is not None:
            bearer, since, until = known
            if since <= now < until:
                return bearer
            del self._checked[digest]
        bearer, expires = self._verified(authorization, now)
        if not bearer.renewed:
            self._checked[digest] = (bearer, now, expires - LIFE_SECONDS // 2)
            if len(self._checked) > REMEMBERED:
                self._checked.popitem(last=False)
        return bearer

    def _verified(self, authorization: str, now: int) -> tuple[Bearer, int]:
        scheme, _, token = authorization.partition(" ")
        if not authorization:
            raise self._refused("the request has no token")
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
            raise self._refused("the Authorization header is not `Bearer TOKEN`")
        claims, outdated = self._claims(token)
        match claims:
            case {"sub": str(user_id), "exp": int(expires), "cnf": {"kid": str(device)}}:
                pass
            case _:
                raise self._refused("that is not a token of this broker")
        left = expires - now
        if left <= 0:
            raise self._refused("the sign-in has expired")
        if left > LONGEST_SECONDS:
            raise self._refused("that sign-in is dated later than the broker's clock")
        fresh = LIFE_SECONDS // 2 <= left <= LIFE_SECONDS and not outdated
        return Bearer(user_id, device, "" if fresh else self.issue(user_id, device)), expires

    def _claims(self, token: str) -> tuple[dict[str, object], bool]:
        """Return what a token says, and whether it is the fallback that signed it. Raises Unauthorized."""
        try:
            try:
                return self._decoded(token, self._secrets.current), False
            except jwt.InvalidSignatureError:
                if not self._secrets.fallback:
                    raise
                return self._decoded(token, self._secrets.fallback), True
        except jwt.InvalidSignatureError as error:
            raise self._refused(
                "that token is not valid for this broker: its DISPATCH_JWT_SECRET may have changed"
            ) from error
        except jwt.PyJWTError as error:
            raise self._refused("that is not a token of this broker") from error

    def _decoded(self, token: str, secret: bytes) -> dict[str, object]:
        return jwt.decode(
            token,
            secret,
            algorithms=["HS256"],
            audience=self._origin,
            issuer=self._origin,
            options={
                "require": ["iss", "aud", "sub", "iat", "exp", "cnf"],
                # Times are compared by `check`, by the clock that was passed in.
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )

    def _refused(self, message: str) -> Unauthorized:
        return Unauthorized(message, fix=f"sign in again: `dispatch login --broker {self._origin}`")


def load_secrets(data: Path, environment: Mapping[str, str]) -> TokenSecrets:
    """Return $DISPATCH_JWT_SECRET, or the secret kept in the data folder (made at the first start, 0600); and as the
    fallback $DISPATCH_JWT_SECRET_FALLBACK, or beside a kept one the file that rotation.py leaves.

    Raises Invalid for one that is too short, and as kept_secret.
    """
    given, fallback = (_given(name, environment) for name in ("DISPATCH_JWT_SECRET", "DISPATCH_JWT_SECRET_FALLBACK"))
    if given:
        return TokenSecrets(given, fallback)
    current = kept_secret(data / SECRET_FILE, if_removed="everybody has to sign in again")
    kept = existing_secret(data / FALLBACK_FILE, if_removed="who was not online lately has to sign in again")
    return TokenSecrets(current, fallback or kept or b"")


def _given(name: str, environment: Mapping[str, str]) -> bytes:
    given = environment.get(name, "").encode()
    if given and len(given) < MIN_TEXT:
        other = "the broker makes its own secret" if name == "DISPATCH_JWT_SECRET" else "no other secret is accepted"
        raise Invalid(
            f"{name} has {len(given)} bytes; at least {MIN_TEXT} are needed",
            fix=f"set it to the output of `openssl rand -hex 32`; or unset it, and {other}",
        )
    return given
