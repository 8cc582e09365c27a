"""Values for storage operations, made up: no signatures, since a storage gets everything verified."""

from __future__ import annotations

import itertools
from typing import Any

from rendezvous.storage.interface import Storage
from rendezvous.storage.rows import AccountClaim, Author, Caller, NewInvitation, SignIn

NOW = 1_800_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_numbers = itertools.count()


def author(
    user: str, *, device: str | None = None, nonce: str | None = None, expires: int = NOW + 10 * MINUTE
) -> Author:
    """Return a device of a user with a nonce of its own."""
    return Author(user, device or f"device of {user}", nonce or f"nonce {next(_numbers)}", expires)


def caller(user: str, *, device: str | None = None) -> Caller:
    return Caller(user, device or f"device of {user}")


def claim(
    user: str, *, epoch: int = 1, devices: tuple[str, ...] | None = None, counter: int = 1, **changes: Any
) -> AccountClaim:
    """Return the claim of a user's only device, or of the given ones; `counter` is that of all their memberships."""
    fields = {
        "user_id": user,
        "root": f"root of {user}".encode(),
        "epoch": epoch,
        "device_set": f"device-set {epoch} of {user}".encode(),
        "devices": dict.fromkeys((f"device of {user}",) if devices is None else devices, counter),
    }
    return AccountClaim(**{**fields, **changes})


def sign_in(user: str, code: str, **changes: Any) -> SignIn:
    fields = {
        "user_code": code,
        "user_id": user,
        "device": f"device of {user}",
        "device_name": "laptop",
        "device_set": claim(user).device_set,
        "address": "203.0.113.1",
        "expires": NOW + 10 * MINUTE,
    }
    return SignIn(**{**fields, **changes})


def invitation(inviter: str, invitee: str, token: str, **changes: Any) -> NewInvitation:
    """Return an invitation with the device-set of `claim(inviter)`."""
    fields = {
        "token": token,
        "invitee": invitee,
        "statement": f"statement {token}".encode(),
        "device_set": claim(inviter).device_set,
        "created": NOW,
        "expires": NOW + 7 * DAY,
    }
    return NewInvitation(**{**fields, **changes})


async def approved(storage: Storage, user: str, *, wanted: AccountClaim | None = None, now: int = NOW) -> Author:
    """Sign a user in and return their device as an author with an unused nonce."""
    wanted = wanted or claim(user)
    code = f"code {next(_numbers)}"
    by = author(user, expires=now + 10 * MINUTE)
    asked = sign_in(user, code, device_set=wanted.device_set, expires=now + 10 * MINUTE)
    await storage.open_sign_in(by, wanted, asked, device_code=code.encode(), interval=5000, now=now)
    await storage.approve_sign_in(code, wanted, now)
    return author(user, expires=now + 10 * MINUTE)


async def version_of(storage: Storage, who: Caller) -> int:
    """Return the version of a user's invitations."""
    return (await storage.standing(who, NOW)).version
