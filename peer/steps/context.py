"""What every part of a node shares: identity, store and blobs, clock, randomness. Starts nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from os import urandom
from typing import Any, TypeVar

from peer.machine.identity import Identity
from peer.machine.state_folder import StateFolder
from peer.protocol import names
from peer.protocol.signing import Signed, sign_by_device
from peer.protocol.statements import Addressed, DeviceStatement
from peer.store.blobs import Blobs
from peer.store.database import Store

A = TypeVar("A", bound=Addressed)


def wall_clock_ms() -> int:
    """Return the machine's wall clock in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


_MONOTONIC_SINCE = time.time_ns() - time.monotonic_ns()


def steady_ms() -> int:
    """Return milliseconds since the epoch as if, since this process started, nobody had set the clock or suspended the
    machine."""
    return (_MONOTONIC_SINCE + time.monotonic_ns()) // 1_000_000


@dataclass(frozen=True)
class Context:
    """The node's identity, store and sources of time and randomness. `clock` gives ms since the epoch: dates. `steady`
    as well, for what is compared with a wait in this life of the node alone."""

    state: StateFolder
    identity: Identity
    store: Store
    blobs: Blobs
    clock: Callable[[], int] = wall_clock_ms
    random: Callable[[int], bytes] = urandom
    steady: Callable[[], int] = steady_ms

    def new_id(self) -> str:
        """Return a fresh UUIDv7."""
        return names.uuid7(self.clock(), self.random(10))

    # **content is Any: the fields of whichever type it is, which its own constructor checks.
    def sign(self, kind: type[DeviceStatement], **content: Any) -> Signed:
        """Make a statement of this device and sign it; `id` and `created` are filled in unless given."""
        content.setdefault("id", self.new_id())
        content.setdefault("created", self.clock())
        statement = kind(issuer_user=self.identity.user_id, issuer_device=self.identity.device, **content)
        return sign_by_device(statement, self.identity.seed)

    def sign_for(self, kind: type[A], user: str, device: str, **content: Any) -> Signed:
        """Make and sign a statement to one device of another user."""
        return self.sign(kind, audience_user=user, audience_device=device, **content)
