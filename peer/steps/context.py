"""What every step of the node works with: who we are, the store, the clock, and what a step leaves to be done after it.

A step is a plain function that runs inside one store transaction. It may sign and store; it never waits, sends or
starts anything. What must happen once its transaction is durable it notes in `Effects`, and the node does it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from os import urandom
from typing import Any, TypeVar

from peer.machine.identity import Identity
from peer.machine.state_folder import StateFolder
from peer.protocol import names
from peer.protocol.statements import Addressed, DeviceStatement, Signed, sign_by_device
from peer.store.blobs import Blobs
from peer.store.database import Store

L = TypeVar("L", bound=Addressed)


def wall_clock_ms() -> int:
    """Return milliseconds since the epoch, as the machine's clock has them."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Context:
    """The node's identity, store and sources of time and randomness. `clock` gives ms since the epoch."""

    state: StateFolder
    identity: Identity
    store: Store
    blobs: Blobs
    clock: Callable[[], int] = wall_clock_ms
    random: Callable[[int], bytes] = urandom

    def new_id(self) -> str:
        """Return a fresh UUIDv7."""
        return names.uuid7(self.clock(), self.random(10))

    def sign(self, kind: type[DeviceStatement], **content: Any) -> Signed:
        """Make and sign a statement of this device; id and time are filled in."""
        content.setdefault("id", self.new_id())
        content.setdefault("created", self.clock())
        statement = kind(issuer_user=self.identity.user_id, issuer_device=self.identity.device, **content)
        return sign_by_device(statement, self.identity.seed)

    def letter(self, kind: type[L], user: str, device: str, **content: Any) -> Signed:
        """Make and sign a statement to one device of another user."""
        return self.sign(kind, audience_user=user, audience_device=device, **content)


@dataclass
class Effects:
    """What is to be done once a step is durable."""

    wake: set[str] = field(default_factory=set)
    """Devices for which the outbox has something new."""
    changed: set[str] = field(default_factory=set)
    """Dispatches whose state, trace or approvals changed: live views look again."""
    stop_runs: dict[str, str] = field(default_factory=dict)
    """Runs to kill at once: dispatch id → reason."""
    pull_files: bool = False
    contacts_changed: bool = False
    """Who may connect, and who reads our presence, must be worked out again."""
    broker: bool = False
    """Something waits for the broker."""
    invitations_changed: bool = False
    """An invitation came, or has another state: lists of them are out of date."""
    expires: float = math.inf
    """When (ms since the epoch) the first of the dispatches that now wait for a decision expires."""
