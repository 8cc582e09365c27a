"""Rows of the store as typed values: one frozen dataclass per table, one field per column. No SQL here."""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, Literal, TypeVar, cast

import msgspec

from peer.dispatches.lifecycle import State
from peer.protocol.outcomes import Landed
from peer.trust.edge_lifecycle import RuleReach, Status
from peer.trust.invitation_lifecycle import State as InvitationState

T = TypeVar("T")


def one(kind: type[T], row: sqlite3.Row | None) -> T | None:
    """Return the row as a `kind`, or None."""
    return None if row is None else all_of(kind, [row])[0]


def all_of(kind: type[T], rows: list[sqlite3.Row]) -> list[T]:
    """Return the rows as a list of `kind`. Its fields are the columns, in any order; those with a default may lack."""
    if not rows:
        return []
    make = _maker(cast(Hashable, kind), tuple(rows[0].keys()))
    return [make(row) for row in rows]


@lru_cache(maxsize=256)
def _maker(kind: Any, columns: tuple[str, ...]) -> Callable[[sqlite3.Row], Any]:
    """Return what makes a `kind` of a row: by the places of its columns, as each look for a name passes all of them."""
    if set(columns) != set(kind.__match_args__):
        return lambda row: kind(**dict(row))
    in_order = itemgetter(*map(columns.index, kind.__match_args__))
    return lambda row: kind(*in_order(row))


@dataclass(frozen=True, slots=True)
class Contact:
    """A pinned user: root key (32 bytes) and the signed device-set with the highest epoch.

    `forgotten`: when (ms) this person stopped believing that key, 0 if they did not.
    """

    user_id: str
    root: bytes
    device_set: bytes
    epoch: int
    verified: int
    alias: str
    created: int
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class FormerKey:
    """A root key of a contact that another one has replaced, with its newest device-set. `forgotten`: when (ms)."""

    user_id: str
    root: bytes
    device_set: bytes
    forgotten: int


@dataclass(frozen=True, slots=True)
class ContactDevice:
    """A device in a contact's device-set. `addresses` is a JSON list of multiaddrs, `hello` its signed hello or b"".

    `presence_seq`: the number of the peer record that the addresses are from.
    """

    device: str
    user_id: str
    sealing_key: bytes
    name: str
    addresses: str
    last_seen: int
    hello: bytes
    hello_counter: int
    presence_seq: int


@dataclass(frozen=True, slots=True)
class Membership:
    """The newest membership that a device signed: its user and root key, or that it has left."""

    device: str
    user_id: str
    root: bytes
    counter: int
    standing: str
    sealing_key: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class Edge:
    """A trust edge. incoming: the peer may dispatch to this user, who can change it; outgoing: the reverse."""

    edge_id: str
    direction: str
    user_id: str
    device: str
    status: Status
    scope: str
    invitation_id: str
    acceptance: bytes
    created: int
    changed: int


@dataclass(frozen=True, slots=True)
class EdgeRule:
    """One stored `always` rule."""

    rule_id: int
    edge_id: str
    tool: str
    pattern: str
    reach: RuleReach
    created: int


@dataclass(frozen=True, slots=True)
class EdgeMcpServer:
    """An MCP server as an edge pins it. `command`: JSON list; `tools`: JSON {tool: hex SHA-256}, None until listed."""

    edge_id: str
    name: str
    command: str
    tools: str | None


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation sent or received; `token` is its id, `broker` the URL of the one where it was posted.

    Of a sent one, `emailed` is 1 once a mail server took its mail, and `fetched` when (ms) a device of the invited
    person first fetched it, 0 before that; `other_key` is 1 if it was answered under another root key than the pinned
    one.
    """

    token: str
    direction: str
    peer: str
    raw: bytes
    secret: bytes
    verified: int
    status: InvitationState
    emailed: int
    created: int
    expires: int
    broker: str
    fetched: int = 0
    other_key: int = 0


@dataclass(frozen=True, slots=True)
class BrokerWrite:
    """A write that the broker at this URL has not confirmed yet."""

    n: int
    action: str
    token: str
    body: bytes
    created: int
    broker: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A dispatch, sent or received. Times in ms; `code`, `message` and `fix` are why it was rejected or failed."""

    dispatch_id: str
    direction: str
    edge_id: str
    peer: str
    device: str
    state: State
    raw: bytes
    digest: bytes
    task: str
    created: int
    expires: int
    updated: int
    attempt: int = 0
    interrupted: int = 0
    cwd: str = ""
    code: int = 0
    message: str = ""
    fix: str = ""
    decision: bytes = b""
    result: bytes = b""
    trace_bytes: int = 0
    """What is stored of the traces of all attempts: batches, events, and the rows around them."""
    kept_bytes: int = 0
    """Sizes of the files that are here or awaited, and of the calls that a person was asked about."""
    closed: int = 0
    """When it ended here, or when the other side acknowledged its result (ms); 0: it has not ended."""
    thinned: int = 0
    """When its events and the bytes of its files were removed (ms); 0: never."""
    git_folder: str = ""
    """The repository's folder that its accept granted beside `cwd`: JSON of projects.git_folders.GitFolder, or ""."""


class FileState(enum.IntEnum):
    """Whether the bytes of a file are in the blob folder. The values are those of the column `files.ready`."""

    AWAITED = 0
    READY = 1
    GIVEN_UP = -1
    """They never came, and will not."""
    REMOVED = -2
    """They were here, and nobody will open them any more."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a dispatch or a result. `statement` is the id of the statement that named its digest.

    `ready` is the value of a `FileState`; read it as `state`.
    """

    dispatch_id: str
    role: str
    position: int
    name: str
    size: int
    digest: bytes
    statement: str
    ready: int

    @property
    def state(self) -> FileState:
        """Whether the file's bytes are here, awaited, given up or removed."""
        return FileState(self.ready)


@dataclass(frozen=True, slots=True)
class Approval:
    """One tool call that waits or waited for a person. `call` and `answer` are JSON; `outcome` is "" while open."""

    dispatch_id: str
    request_id: str
    attempt: int
    call: str
    asked: int
    deadline: int
    outcome: str
    answer: str


ChangeSetState = Literal["waiting", "closed", "removed"]
LandingState = Literal["begun", "landed", "undoing", "undone"]


@dataclass(frozen=True, slots=True)
class ChangeSetRow:
    """What one attempt changed in its views. `decidable`: entries that can be put in place at all; `waits`: of these,
    those that are neither in place nor thrown away.

    `state`: `waiting` for a person, `closed`, or `removed`: its contents are gone. `bytes`: of what is kept of it.
    """

    dispatch_id: str
    attempt: int
    digest: bytes
    entries: int
    decidable: int
    bytes: int
    waits: int
    state: ChangeSetState
    created: int
    decided: int = 0


@dataclass(frozen=True, slots=True)
class Landing:
    """Entries of a change set that were put in place together. `entries`: JSON list of their numbers.

    `begun` and `undoing`: under way, or interrupted by a crash. `unasked`: 1 if the end of the run began it and not a
    person.
    """

    dispatch_id: str
    attempt: int
    number: int
    entries: str
    state: LandingState
    at: int
    unasked: int = 0

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of its entries."""
        return frozenset(msgspec.json.decode(self.entries, type=list[int]))


@dataclass(frozen=True, slots=True)
class LandingReport:
    """The newest signed report on how much of a run's changes is in place; `at`: when it was signed (ms).

    `in_place` and `in_all` are None where only the word was told.
    """

    dispatch_id: str
    counter: int
    landed: Landed
    in_place: int | None
    in_all: int | None
    at: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class QueuedStatement:
    """A statement in the outbox. Statements with the same `ordering` are delivered in order; "" for none.

    `head` is 1 for the oldest of its ordering, and for every statement without one.
    """

    n: int
    device: str
    kind: str
    priority: int
    ordering: str
    edge_id: str
    dispatch_id: str
    raw: bytes
    created: int
    head: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A statement received before, and its acknowledgement."""

    device: str
    statement_id: str
    digest: bytes
    code: int
    message: str
    fix: str
    at: int
