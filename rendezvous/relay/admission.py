"""Whose devices a relay serves, as its owner said: of brokers, with a secret, on the owner's list of contacts. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from peer.protocol import base64url, cose
from peer.protocol.errors import DispatchError, Forbidden, Invalid, Unauthorized
from peer.protocol.relays import admission as tokens
from peer.protocol.relays import contacts
from peer.protocol.relays.messages import MAX_TOKEN

SECRET_VARIABLE: Final = "DISPATCH_RELAY_TOKEN"  # noqa: S105 - a variable's name
MIN_SECRET: Final = 32
KEY_BYTES: Final = 32

CONTACT: Final = b"contact "
"""What stands before the pseudonym of a contact, as whom their devices count."""

_HOW = (
    "give --allow broker=KEY with the output of `dispatch-rendezvous relay-key`, --allow contacts for your own "
    f"contacts, or --allow token with a secret in ${SECRET_VARIABLE}"
)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A device may use the relay: as whose it counts, and for how many seconds, None for as long as it is connected."""

    user: bytes
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Admission:
    """What admits a device: a token signed by one of the `brokers` (public keys); the `secret`, b"" for none; to be
    among `contacts`, {peer id: pseudonym}, which are read from `contacts_file`, "" for none.
    """

    brokers: frozenset[bytes] = frozenset()
    secret: bytes = b""
    contacts_file: str = ""
    contacts: Mapping[str, bytes] = field(default_factory=dict)

    def admit(self, device: str, token: bytes, now: int) -> Admitted:
        """Say how a device is admitted. `now`: ms since the epoch.

        Raises Unauthorized for no token or one that proves nothing, Forbidden for another broker's, and for whoever is
        no contact of a relay that is for contacts alone.
        """
        if user := self.contacts.get(device):
            return Admitted(CONTACT + user, None)
        if self.secret and hmac.compare_digest(token, self.secret):
            # The secret says nothing of who brings it, so every device counts for itself.
            return Admitted(b"device " + device.encode(), None)
        if self.contacts_file and not self.brokers and not self.secret:
            raise Forbidden("this relay only serves contacts of its operator", fix="ask the operator of the relay")
        if not token or not self.brokers:
            raise Unauthorized("this relay needs a token", fix="ask the operator of the relay")
        try:
            broker = cose.parse(token).kid
        except (DispatchError, ValueError) as error:
            raise Unauthorized("this relay does not accept that token", fix="ask the operator of the relay") from error
        if broker not in self.brokers:
            raise Forbidden("this relay does not serve users of that broker", fix="use a relay that your broker names")
        try:
            found = tokens.open_token(token, brokers=self.brokers, device=device, now=now)
        except (DispatchError, ValueError) as error:
            sentence = error.message if isinstance(error, Forbidden) else "that token is not valid"
            raise Unauthorized(sentence, fix="sign in again with `dispatch login`") from error
        # A broker that vouches for longer is asked again all the same: whom it has removed is gone a day later.
        left = min(found.expires - now, tokens.TOKEN_LIFE_MS) + tokens.CLOCKS_DIFFER_MS
        return Admitted(found.broker + found.pseudonym, left / 1000)


def admission_of(allowed: Iterable[str], variables: Mapping[str, str]) -> Admission:
    """Return what `--allow` and the environment say. Raises Invalid."""
    brokers: list[bytes] = []
    secret, contacts_file = b"", ""
    for text in allowed:
        mode, _, value = text.strip().partition("=")
        if mode == "broker":
            brokers.append(_key(value))
        elif text.strip() == "token":
            secret = _secret(variables)
        elif mode == "contacts":
            contacts_file = _contacts_file(value, variables)
        else:
            raise Invalid(f"--allow {text}: unknown kind of permission", fix=_HOW)
    if not brokers and not secret and not contacts_file:
        raise Invalid("no --allow: nobody could use this relay", fix=_HOW)
    return Admission(frozenset(brokers), secret, contacts_file)


def _key(text: str) -> bytes:
    try:
        key = base64url.decode(text)
    except Invalid:
        key = b""
    if len(key) != KEY_BYTES:
        raise Invalid(
            f"--allow broker={text}: not a broker's relay key",
            fix="give the key that `dispatch-rendezvous relay-key` prints on the broker: 43 characters",
        )
    return key


def _contacts_file(text: str, variables: Mapping[str, str]) -> str:
    """Return the path of the list that is named, else of the one that the daemon keeps in its state folder."""
    home = variables.get("HOME", "")
    folder = PurePath(variables.get("DISPATCH_HOME") or PurePath(home) / ".dispatch")
    # Most shells leave the ~ behind a = alone.
    path = PurePath(home + text[1:] if text.startswith("~/") else text or folder / contacts.PLACE)
    if not path.is_absolute():
        raise Invalid(
            f"--allow contacts{'=' * bool(text)}{text}: no file at an absolute path",
            fix="give --allow contacts=/PATH, the absolute path of relay/contacts.json in the daemon's state folder",
        )
    return str(path)


def _secret(variables: Mapping[str, str]) -> bytes:
    secret = variables.get(SECRET_VARIABLE, "").encode()
    if not MIN_SECRET <= len(secret) <= MAX_TOKEN:
        raise Invalid(
            f"--allow token needs a secret of {MIN_SECRET} to {MAX_TOKEN} bytes in ${SECRET_VARIABLE}",
            fix=(
                f"`export {SECRET_VARIABLE}=$(openssl rand -base64 33)`, and give it to the people who may use the "
                "relay"
            ),
        )
    return secret
