"""The list of a person's own and their contacts' devices, by which a relay of theirs knows whom it serves. Pure.

The person's node keeps it in a file; the relay reads that file and needs nothing else of the node. A user is in it by a
pseudonym, from which only that node can tell who it is, as in a broker's token.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Final

from peer.protocol import base64url, names
from peer.protocol.errors import DispatchError, Invalid
from peer.protocol.relays.admission import PSEUDONYM_BYTES, pseudonym

PLACE: Final = "relay/contacts.json"
"""Below the state folder, in a folder of its own that a confined relay may be shown whole; as StateFolder has it."""

MAX_DEVICES: Final = 4_096
MAX_BYTES: Final = 512 * 1024
"""So many devices, each a user's only one, take 350 KiB."""

_VERSION: Final = 1
_FIX: Final = "remove the file and restart dispatch-daemon, which writes it again"


def secret_of(seed: bytes) -> bytes:
    """Return the secret of the pseudonyms in the list of a device with this private key."""
    return hmac.digest(seed, b"dispatch relay contacts 1\x00", "sha256")


def encode(devices: Iterable[tuple[str, str]], *, secret: bytes) -> bytes:
    """Return the list of these devices: (user id, peer id), the first MAX_DEVICES of them. `secret`: of `secret_of`."""
    users: dict[str, list[str]] = {}
    for user_id, device in list(devices)[:MAX_DEVICES]:
        users.setdefault(base64url.encode(pseudonym(secret, user_id)), []).append(device)
    return json.dumps({"version": _VERSION, "users": users}, indent=1).encode() + b"\n"


def decode(raw: bytes) -> Mapping[str, bytes]:
    """Return {peer id: pseudonym}. Raises Invalid for anything but one whole list."""
    if len(raw) > MAX_BYTES:
        raise Invalid(f"the list of contacts has more than {MAX_BYTES // 1024} KiB", fix=_FIX)
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Invalid("the list of contacts is damaged", fix=_FIX) from error
    match document:
        case {"version": int(version)} if version > _VERSION:
            raise Invalid(
                "the list of contacts was written by a newer version of dispatch",
                fix="install that version for the relay too",
            )
        case {"version": 1, "users": dict(users)}:
            return _devices(users)
    raise Invalid("the list of contacts is damaged", fix=_FIX)


def _devices(users: Mapping[str, object]) -> Mapping[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        for name, devices in users.items():
            user = base64url.decode(name)
            if len(user) != PSEUDONYM_BYTES or not isinstance(devices, list):
                raise ValueError("a user has a pseudonym and devices")
            for device in devices:
                if not isinstance(device, str) or device in found:
                    raise ValueError("a device is one user's")
                names.peer_id_bytes(device)
                found[device] = user
    except (DispatchError, ValueError) as error:
        raise Invalid("the list of contacts is damaged", fix=_FIX) from error
    if len(found) > MAX_DEVICES:
        raise Invalid(f"the list of contacts has more than {MAX_DEVICES:,} devices", fix=_FIX)
    return found
