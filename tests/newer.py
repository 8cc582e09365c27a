"""A later version of dispatch, as far as its wire goes: this one with more fields of a dispatch and one more type.

`upgrade` puts it in place, for one test (with the functions of pytest's monkeypatch) or for a whole process. What is
given as metadata `newer.NAME` is sent as the field NAME, and with `newer.ping` a statement of the new type goes first.
As a program (`python -m tests.newer`) it is that version's daemon.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from peer.programs import daemon
from peer.protocol import fields as f
from peer.protocol import statements as s
from peer.protocol import table
from peer.protocol.fields import Field
from peer.steps import sending
from peer.steps.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class NewerDispatch(s.Dispatch):
    """`urgency` and `no_network` have a feature, so that they are fitted; `mood` and `witness` are always sent."""

    urgency: str = ""
    mood: str = ""
    no_network: str = ""
    witness: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(s.Addressed):
    """A type that the earlier version does not have."""

    type_name: ClassVar[str] = "ping"
    priority: ClassVar[int] = 0


FIELDS = {
    "urgency": Field(200, f.text(32)),
    "mood": Field(201, f.text(32)),
    "no_network": Field(100, f.text(32)),
    "witness": Field(101, f.text(32)),
}
FEATURES = {"urgency": "urgency", "no_network": "no-network"}


def upgrade(setitem: Callable[[Any, Any, Any], None], setattribute: Callable[[Any, str, Any], None]) -> None:
    """Make this version the later one."""
    for name, field in FIELDS.items():
        setitem(table.FIELDS, name, field)
    for name, feature in FEATURES.items():
        setitem(table.FEATURES, name, feature)
    for kind in (NewerDispatch, Ping):
        setitem(s.VERSIONS, kind.type_name, {1: kind})
        setitem(s.TYPES, kind.type_name, kind)
    setattribute(sending, "Dispatch", NewerDispatch)
    content_of, compose = sending.content_of, sending.compose

    def newer_content(draft: sending.Draft) -> dict[str, Any]:
        given = content_of(draft)
        meta = given.pop("meta")
        given["meta"] = {name: value for name, value in meta.items() if "newer." not in name}
        return given | {name.removeprefix("newer."): value for name, value in meta.items() if "newer." in name}

    def newer_compose(tx: Transaction, draft: sending.Draft) -> sending.Composed:
        if "newer.ping" in draft.content.meta:
            edge = sending.get_edge_to(tx.db, tx.context.identity.user_id, draft.recipient, tx.now)
            tx.post(tx.context.sign_for(Ping, edge.user_id, edge.device), edge_id=edge.edge_id)
            draft = dataclasses.replace(draft, content=msgspec.structs.replace(draft.content, meta={}))
        return compose(tx, draft)

    setattribute(sending, "content_of", newer_content)
    setattribute(sending, "compose", newer_compose)


def main() -> None:
    """Run the later version's daemon."""
    upgrade(lambda table, key, value: table.__setitem__(key, value), setattr)
    daemon.main()


if __name__ == "__main__":
    main()
