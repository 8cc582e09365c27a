"""Two or three people with real stores and keys, joined by a pretend wire: no network, no daemon, a clock one sets.

`deliver` carries one statement as the courier would: out of the outbox, into the other store, the answer back.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from peer.machine import identity
from peer.machine.state_folder import StateFolder
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.content import Content
from peer.protocol.signing import open_as, sign_by_device, sign_by_root
from peer.protocol.statements import Acceptance, Device, DeviceSet
from peer.steps import inbound, invitation_answers, inviting, receiving, sending
from peer.steps.context import Context
from peer.steps.effects import Effects
from peer.steps.transaction import Transaction
from peer.store import connection, dispatches, outbox, rows
from peer.store.blobs import Blobs
from peer.store.database import Store
from peer.trust import invitation_address
from peer.trust.scopes import Scope

T = TypeVar("T")
START = 1_800_000_000_000
READ_ONLY = Scope(tools=("Read", "Glob", "Grep"))


@cache
def _migrated() -> sqlite3.Connection:
    """Return an empty store of this version, to copy."""
    return connection.empty()


class Clock:
    """Milliseconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


class Person:
    """One user's device: keys, a store, and what its steps left to do."""

    def __init__(self, folder: Path, name: str, clock: Clock, *, seed: str = "") -> None:
        """`seed`: of all its randomness; with the same one everything is the same again, wherever its folder lies."""
        self.name = name
        seed = seed or f"{folder}-{name}"
        state = StateFolder(folder / name)
        self._random = (f"{seed}-{number}".encode() for number in range(1_000_000))
        who = identity.create(state, f"{name}@example.org", name, clock, self.random)
        self.db = connection.connect(state.store)
        # Nothing here outlives a crash of the machine, and migrating takes longer than most of these tests.
        self.db.execute("PRAGMA synchronous = OFF")
        _migrated().backup(self.db)
        # The steps use the connection they are given; the Store's threads have no part in these tests.
        self.context = Context(state, who, cast(Store, None), Blobs(state.blobs), clock, self.random, clock)
        self.effects = Effects()

    def random(self, count: int) -> bytes:

        return hashlib.sha512(next(self._random)).digest()[:count]

    @property
    def user(self) -> str:
        return self.context.identity.user_id

    @property
    def device(self) -> str:
        return self.context.identity.device

    def device_set(self, *entries: Device, **changes: Any) -> bytes:
        """A device-set of this user's root with these devices."""
        own, _ = open_as(DeviceSet, self.context.identity.device_set)
        seed = (self.context.state.path / "root.key").read_bytes()
        return sign_by_root(dataclasses.replace(own, devices=entries, **changes), seed).raw

    def step(self, work: Callable[[Transaction], T]) -> T:
        """Run one step in one transaction; what it left to do joins `effects`."""
        with connection.writing(self.db) as db:
            tx = Transaction(db, self.context)
            value = work(tx)
        self.effects.merge(tx.effects)
        return value

    def waiting(self, other: Person) -> list[rows.QueuedStatement]:
        """Everything in the outbox for somebody, in the order the courier would take it with one in flight."""
        found, excluded = [], set[int]()
        while (item := outbox.next_for(self.db, other.device, excluded_numbers=excluded)) is not None:
            found.append(item)
            excluded.add(item.n)
        return found

    def receive(self, sender: Person, raw: bytes) -> Acknowledgement:
        """Take in bytes that `sender`'s device brought."""
        return self.step(lambda tx: inbound.take(tx, sender.device, raw))

    def deliver(self, other: Person) -> list[tuple[str, Acknowledgement]]:
        """Bring everything that waits for `other`; return (kind, answer) of each."""
        said = []
        while (item := outbox.next_for(self.db, other.device)) is not None:
            answer = other.receive(self, item.raw)
            said.append((item.kind, answer))
            if not answer.final:
                break
            answered: rows.QueuedStatement = item
            self.step(lambda tx: sending.on_acknowledged(tx, answered, answer))  # noqa: B023
        return said

    def row(self, dispatch_id: str) -> rows.Dispatch:
        found = dispatches.get(self.db, dispatch_id)
        assert found is not None
        return found

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table, to compare before and after."""
        tables = [name for (name,) in self.db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            name: [tuple(row) for row in self.db.execute(f"SELECT * FROM {name}")]
            for name in tables
            if not name.startswith("sqlite_")
        }


@contextmanager
def people(folder: Path, *names: str) -> Iterator[tuple[Any, ...]]:
    """Give a clock and people by name, strangers to each other."""
    clock = Clock()
    made = [Person(folder, name, clock) for name in names]
    try:
        yield (clock, *made)
    finally:
        for person in made:
            person.db.close()


def invite(inviter: Person, invited: Person, *, by_address: bool = True, broker: str = "") -> str:
    """Have an invitation arrive, by a broker; return its token."""
    made = inviter.step(lambda tx: inviting.invite(tx, invited.user, broker=broker))
    invited.step(lambda tx: inviting.on_invitation(tx, made.row.raw, broker=broker))
    if by_address:
        address = invitation_address.Address(
            "http://127.0.0.1", made.row.token, hashlib.sha256(made.row.raw).digest(), made.row.secret
        )
        invited.step(lambda tx: invitation_answers.open_address(tx.db, address))
    return made.row.token


def accept_invitation(invited: Person, token: str) -> bytes:
    """Accept an invitation; return the signed acceptance."""
    edge = invited.step(lambda tx: invitation_answers.accept(tx, token, READ_ONLY))
    return edge.acceptance


def take_answer(inviter: Person, raw: bytes) -> int:
    """Have the answer to an invitation arrive; return the code of its acknowledgement."""
    return inviter.step(lambda tx: invitation_answers.on_answer(tx, raw)).code


def resigned(person: Person, raw: bytes, **changes: Any) -> bytes:
    """Return the acceptance with other fields, signed by this person's device."""
    acceptance, _ = open_as(Acceptance, raw)
    changes.setdefault("issuer_device", person.device)
    return sign_by_device(dataclasses.replace(acceptance, **changes), person.context.identity.seed).raw


def connect(
    inviter: Person, invited: Person, scope: Scope = READ_ONLY, *, by_address: bool = True, broker: str = ""
) -> str:
    """Bring two strangers to a confirmed edge inviter → invited; return its id."""
    token = invite(inviter, invited, by_address=by_address, broker=broker)
    edge = invited.step(lambda tx: invitation_answers.accept(tx, token, scope))
    raw = edge.acceptance
    inviter.step(lambda tx: invitation_answers.on_answer(tx, raw))
    inviter.deliver(invited)
    with connection.writing(invited.db) as db:
        # What went by broker went by courier too; by now the inviter answers it.
        db.execute("DELETE FROM broker_outbox")
    invited.deliver(inviter)
    return edge.edge_id


def send(sender: Person, recipient: Person, task: str = "say hello", *, expires: int = 3600, **content: Any) -> str:
    """Compose a dispatch; return its id."""
    wanted = sending.Draft(recipient.user, Content(task=task, **content), expires)
    return sender.step(lambda tx: sending.compose(tx, wanted)).row.dispatch_id


def accept(recipient: Person, dispatch_id: str, cwd: str = "") -> rows.Dispatch:
    """Accept a dispatch."""
    return recipient.step(lambda tx: receiving.accept(tx, dispatch_id, cwd=cwd))[0]
