"""The list of its owner's contacts that a relay serves: read from a file, again whenever that changes.

The owner's node replaces the file (peer/node/relay_contacts.py). Where it is missing, damaged or could be somebody
else's, nobody on it is admitted. Whoever is no longer on it is disconnected.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

import structlog
import trio

from peer.protocol.errors import DispatchError, Invalid, Unavailable
from peer.protocol.relays import contacts
from rendezvous.relay.admission import CONTACT
from rendezvous.relay.connection import NOT_ALLOWED
from rendezvous.relay.relay import Relay

LOOK_SECONDS: Final = 1.0
_NO_CONTACT: Final = (
    "this relay only serves contacts of its operator, and this device does not belong to one (any more)"
)

_log = structlog.get_logger("relay")

_Version: TypeAlias = tuple[int, ...]
"""What of a file differs once it was replaced or changed."""


async def keep(relay: Relay, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:  # trio-stubs lack trio.TaskStatus
    """Have the relay admit whoever is in its `contacts_file`, until cancelled. Started: read for the first time."""
    path, version = relay.admission.contacts_file, None
    while True:
        try:
            found = await trio.to_thread.run_sync(_read, path, version)
        except DispatchError as error:
            version = None
            if error.message != relay.contacts_problem:
                _log.warning("contacts.not_used", why=error.message, fix=error.fix)
            _apply(relay, {}, error.message)
        else:
            if found is not None:
                version, devices = found
                _apply(relay, devices, "")
                _log.info("contacts.read", devices=len(devices))
        task_status.started()
        task_status = trio.TASK_STATUS_IGNORED
        await trio.sleep(LOOK_SECONDS)


def _apply(relay: Relay, devices: Mapping[str, bytes], problem: str) -> None:
    before = relay.admission.contacts
    relay.admission, relay.contacts_problem = replace(relay.admission, contacts=devices), problem
    for device in relay.registry.devices():
        user = before.get(device.id)
        if user is None or user == devices.get(device.id) or device.user.key != CONTACT + user:
            continue
        if device.control is not None:
            device.control.connection.end(NOT_ALLOWED, _NO_CONTACT)
        for end in relay.registry.dismiss(device):
            end.connection.end(NOT_ALLOWED, _NO_CONTACT)


def _read(path: str, seen: _Version | None) -> tuple[_Version, Mapping[str, bytes]] | None:
    """Return which version of the file this is, and its devices; None for the one that was `seen`. Blocking.

    Raises Invalid, Unavailable.
    """
    try:
        # Not blocking, since a pipe in its place would be waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Invalid(f"{path} is not a plain file", fix="give the list that dispatch-daemon keeps")
            # It is no secret to the relay, but whoever may write it says whom the relay serves.
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                raise Invalid(
                    f"other users can change {path}",
                    fix=f"`chmod go-w {path}`, and run the relay as the file's owner",
                )
            version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            return None if version == seen else (version, contacts.decode(file.read(contacts.MAX_BYTES + 1)))
    except FileNotFoundError as error:
        fix = "start dispatch-daemon, which writes this file; or give its path: --allow contacts=FILE"
        raise Unavailable(f"{path} does not exist", fix=fix) from error
    except OSError as error:
        fix = "run the relay as the file's owner"
        raise Unavailable(f"can't read {path}: {error.strerror}", fix=fix) from error
