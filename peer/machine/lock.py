"""One node per state folder: a lock taken before anything else, released by the OS when the process ends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from peer.machine.state_folder import StateFolder, read_private
from peer.protocol.errors import Conflict, DispatchError, Unavailable

PROBE_SECONDS = 0.02
"""Far longer than a session holds the lock when it only checks whether a node is running."""


class AlreadyRunning(Conflict):
    """Another node uses this state folder."""


@contextmanager
def state_lock(folder: StateFolder) -> Iterator[None]:
    """Hold the folder's lock while the block runs. Raises Unavailable, and AlreadyRunning, which names the holder."""
    folder.create()
    try:
        descriptor = os.open(folder.daemon_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise Unavailable(f"can't lock {folder.path}: {error.strerror}", fix="run `dispatch doctor --fix`") from error
    try:
        try:
            # flock, not fcntl: it belongs to the open file, so closing another descriptor does not release it.
            _flock(descriptor)
        except BlockingIOError:
            raise AlreadyRunning(
                f"another daemon{_holder(folder)} uses {folder.path}",
                fix="use that one, or choose another state folder with DISPATCH_HOME",
            ) from None
        yield
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> None:
    """Lock. Raises BlockingIOError if another process holds the lock for longer than a probe (PROBE_SECONDS)."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(PROBE_SECONDS)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _holder(folder: StateFolder) -> str:
    try:
        document = json.loads(read_private(folder.daemon_json))
        return f" (pid {int(document['pid'])}, 127.0.0.1:{int(document['port'])})"
    except (DispatchError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
