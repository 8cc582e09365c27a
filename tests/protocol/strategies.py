"""Hypothesis strategies for values of the data model and for every statement type; for reuse by other rooms' tests."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from peer.protocol import names
from peer.protocol import statements as s
from peer.protocol.content import TEXTS
from peer.protocol.fields import LAST_TIME
from peer.protocol.statements import FileRef, Statement
from tests.protocol.examples import ALICE, BOB, MALLORY, Person, made

UINT64 = (1 << 64) - 1
SAFE = (1 << 53) - 1

unsigned = st.integers(0, UINT64)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-UINT64 - 1, UINT64), st.binary(max_size=80), st.text())
"""What a key of a map, an item of an array or a whole value may be, without the containers."""


def maps(items: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[Any, Any]]:
    """Maps of one kind of key."""
    return st.one_of(st.dictionaries(unsigned, items, max_size=6), st.dictionaries(st.text(), items, max_size=6))


values = st.recursive(scalars, lambda items: st.one_of(st.lists(items, max_size=6), maps(items)), max_leaves=30)
"""Values of the data model; nested less deeply than codec.MAX_DEPTH."""

persons: st.SearchStrategy[Person] = st.sampled_from((ALICE, BOB, MALLORY))
ids = st.builds(names.uuid7, st.integers(0, (1 << 48) - 1), st.binary(min_size=10, max_size=10))
digests = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, SAFE)
_labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
_atoms = st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-z0-9_+-]{1,20})?", fullmatch=True)
_domains = st.lists(_labels, min_size=1, max_size=3).map(".".join)
user_ids = st.builds(lambda atom, domain: f"{atom}@{domain}", _atoms, _domains)
devices = st.binary(min_size=32, max_size=32).map(lambda key: names.peer_id_text(names.peer_id_of(key)))
file_refs = st.builds(FileRef, st.text(max_size=255), numbers, digests)
files = st.lists(file_refs, max_size=4).map(tuple)

times = st.integers(0, LAST_TIME)

BY_FIELD: dict[str, st.SearchStrategy[Any]] = {
    "issuer_user": user_ids,
    "issuer_device": persons.map(lambda person: person.device),
    "audience_user": user_ids,
    "audience_device": devices,
    "id": ids,
    "created": times,
    "expires": times,
    "root": persons.map(lambda person: person.root),
    "epoch": numbers,
    "devices": st.just(()),
    "device_set": st.binary(min_size=1, max_size=200),
    "counter": numbers,
    "sealing_key": digests,
    "standing": st.sampled_from(("member", "left")),
    "invitation_id": ids,
    "invitation_digest": digests,
    "acceptance_digest": digests,
    "edge_id": ids,
    "scope": st.text(max_size=200),
    "proof": st.binary(max_size=32),
    "edge_status": st.sampled_from(("active", "paused")),
    "task": st.text(max_size=400),
    "files": files,
    **{text.name: st.text(max_size=min(text.limit, 200)) for text in TEXTS},
    "links": st.lists(st.text(max_size=100), max_size=10).map(tuple),
    "meta": st.dictionaries(st.text(max_size=64), st.text(max_size=100), max_size=8),
    "parent": st.one_of(st.just(""), ids),
    "dispatch_id": ids,
    "dispatch_digest": digests,
    "attempt": st.integers(0, 1_000_000),
    "decision": st.sampled_from(("accepted", "declined", "running", "pending", "expired")),
    "reason": st.text(max_size=200),
    "sequence": numbers,
    "previous": digests,
    "events": st.lists(st.text(max_size=100), max_size=6).map(tuple),
    "status": st.sampled_from(("completed", "failed", "cancelled", "declined", "expired")),
    "reply": st.text(max_size=200),
    "usage": st.dictionaries(st.text(max_size=32), numbers, max_size=6),
    "head": digests,
    "count": numbers,
    "sandbox": st.text(max_size=200),
    "code": st.integers(0, 599),
    "change_set": digests,
    "landed": st.sampled_from(("waiting", "all", "part", "none")),
    "in_place": numbers,
    "in_all": numbers,
    "read_version": st.integers(0, 255),
    "unread": st.lists(st.lists(st.integers(0, 65_535), max_size=2).map(tuple), max_size=4).map(tuple),
    "features": st.lists(st.text(max_size=64), max_size=4).map(tuple),
    "versions": st.dictionaries(st.text(max_size=32), st.integers(0, 255), max_size=4),
    "brokers": st.lists(st.binary(min_size=16, max_size=16), max_size=8).map(tuple),
    "origin": st.text(max_size=100),
    "action": st.text(max_size=32),
    "arguments": st.binary(max_size=100),
}
"""Field name → its values; small where the bound is large. The issuing key is one of three people's."""


def statements(kind: type[Statement]) -> st.SearchStrategy[Any]:
    """Statements of one type; an optional field is left at its default now and then."""
    required = {part.name: BY_FIELD[part.name] for part in s.parts_of(kind) if part.required}
    optional = {part.name: BY_FIELD[part.name] for part in s.parts_of(kind) if not part.required}
    found = st.fixed_dictionaries(required, optional=optional).map(lambda values: made(kind, values))
    return st.builds(_with_members, found, st.sets(persons, max_size=3)) if kind is s.DeviceSet else found


def _with_members(device_set: s.DeviceSet, members: set[Person]) -> s.DeviceSet:
    entries = (person.entry(device_set.issuer_user, device_set.root) for person in sorted(members, key=str))
    return dataclasses.replace(device_set, devices=tuple(entries))


any_statement: st.SearchStrategy[Any] = st.one_of([statements(kind) for kind in s.TYPES.values()])


def signer_of(statement: Statement) -> Person:
    """The person of the three whose key the statement names."""
    for person in (ALICE, BOB, MALLORY):
        if isinstance(statement, s.DeviceSet):
            signs = statement.root == person.root
        else:
            signs = getattr(statement, "issuer_device", "") == person.device
        if signs:
            return person
    raise LookupError("nobody has that key")
