"""Edges, invitations and brokers as the JSON documents of the loopback API. Dispatches: views.py."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from peer.dispatches.masking import Masker
from peer.protocol.documents import Document, page_of
from peer.protocol.signing import open_as
from peer.protocol.statements import DeviceSet, Invitation
from peer.store import contacts, edges, invitations, memberships, rows
from peer.store.lists import rfc3339
from peer.store.views import ConnectionPath, Live
from peer.trust import edge_lifecycle, fingerprints, invitation_address, scopes

if TYPE_CHECKING:
    from peer.machine.settings import Settings


def trust_rows(db: sqlite3.Connection, live: Live, *, limit: int | None = None, before: str | None = None) -> Document:
    """Return {trust: [row], blocked: [user id], more, next}: edges that have not ended, and ended ones that no other
    replaced. `next` is a trust_link_id. Raises NotFound for another `before`.
    """
    shown: list[Document] = []
    taken: set[tuple[str, str]] = set()
    for edge in sorted(edges.every(db), key=lambda item: item.status not in edges.OPEN):
        if (edge.user_id, edge.direction) not in taken:
            taken.add((edge.user_id, edge.direction))
            shown.append(trust_row(db, edge, live))
    shown.sort(key=lambda row: (row["peer"], row["direction"]))
    page, rest = page_of(shown, lambda row: str(row["trust_link_id"]), limit=limit, before=before)
    return {"trust": page, "blocked": contacts.blocked(db), **rest}


def path_document(path: ConnectionPath | None) -> Document:
    """Return how a device is connected, since when, and the round trip; each is None if it is not."""
    if path is None:
        return {"path": None, "path_since": None, "round_trip_ms": None}
    return {"path": path.kind, "path_since": rfc3339(path.since), "round_trip_ms": path.round_trip}


def trust_row(db: sqlite3.Connection, edge: rows.Edge, live: Live) -> Document:
    """Return one edge as a row of `contacts`."""
    contact = contacts.get(db, edge.user_id)
    incoming = edge.direction == "incoming"
    stored = scopes.decode(edge.scope) if incoming else scopes.decode_summary(edge.scope)
    expires = stored.expires
    paths = [found for device in contacts.devices(db, edge.user_id) if (found := live.path(device.device))]
    path = min(paths, default=None)  # a direct one before one through a relay
    document = msgspec.to_builtins(stored)
    document["expires"] = None if expires is None else rfc3339(expires)
    budget = document.pop("budget", None)
    row: Document = {
        "trust_link_id": edge.edge_id,
        "from_user": edge.user_id if incoming else live.me,
        "to_user": live.me if incoming else edge.user_id,
        "direction": edge.direction,
        "peer": edge.user_id,
        "alias": contact.alias if contact else "",
        "scopes": document,
        "status": edge_lifecycle.current(edge.status, expires=expires, now=live.now),
        "peer_online": path is not None,
        "can_edit_scopes": incoming and edge.status in edges.OPEN,
        "verified": bool(contact and contact.verified and not contact.forgotten),
        "key_forgotten": rfc3339(contact.forgotten) if contact and contact.forgotten else None,
        **path_document(path),
        "blocked": contacts.is_blocked(db, edge.user_id),
        "created": rfc3339(edge.created),
    }
    if typed := contacts.typed_addresses(db, edge.user_id):
        row["addresses_typed"] = [f"{address}/p2p/{device}" for device in typed for address in typed[device]]
    if contact is not None:
        row["fingerprint"] = str(fingerprints.fingerprint(contact.root))
    if incoming:
        row["budgets"] = budget
        row["rules"] = rule_rows(edges.rules(db, edge.edge_id))
        row["git_folders"] = {
            folder: msgspec.json.decode(pin)["path"] for folder, pin in edges.git_folders(db, edge.edge_id).items()
        }
        row["pinned_servers"] = [_pinned(server) for server in edges.mcp_servers(db, edge.edge_id).values()]
    return row


def rule_rows(stored: Iterable[rows.EdgeRule]) -> list[Document]:
    """Return stored `always` rules as [{id, tool, pattern, reach, created}]."""
    return [
        {
            "id": rule.rule_id,
            "tool": rule.tool,
            "pattern": rule.pattern,
            "reach": rule.reach,
            "created": rfc3339(rule.created),
        }
        for rule in stored
    ]


def _pinned(server: rows.EdgeMcpServer) -> Document:
    """One MCP server as granted: its command, with secrets masked, and the tools that it listed first."""
    command = Masker().text(shlex.join(msgspec.json.decode(server.command)))
    tools = None if server.tools is None else sorted(msgspec.json.decode(server.tools))
    return {"name": server.name, "command": command, "tools": tools}


def invitation_rows(
    db: sqlite3.Connection,
    now: int,
    link: Callable[[rows.Invitation], str],
    *,
    ended: bool,
    limit: int | None = None,
    before: str | None = None,
) -> Document:
    """Return {sent: […], received: […], more, next}, newest first: those that wait for an answer, with `ended` all.

    `limit` counts both together, `next` is a token. `link` builds the address to share of a sent invitation. Raises
    NotFound for a `before` that is in neither.
    """
    listed: list[tuple[str, Document]] = []
    for row in invitations.every(db):
        status = "expired" if row.status == "open" and row.expires <= now else row.status
        if status != "open" and not ended:
            continue
        entry: Document = {
            "token": row.token,
            "status": status,
            "broker": row.broker or None,
            "created": rfc3339(row.created),
            "expires": rfc3339(row.expires),
        }
        if row.direction == "sent":
            entry |= {"to": row.peer, "emailed": bool(row.emailed), "link": link(row) if status == "open" else ""}
            entry |= {
                "progress": _progress(row, status),
                "fetched": rfc3339(row.fetched) if row.fetched else None,
                "page": invitation_address.page_of(row.broker, row.token) if status == "open" and row.broker else "",
            }
        else:
            key = inviter_key(db, row)
            entry |= {"from": row.peer, "fingerprint": key.fingerprint, "verified": key.verified}
            entry |= {"other_key": key.other, "unknown_fields": key.unread}
        listed.append((row.direction, entry))
    page, rest = page_of([entry for _, entry in listed], lambda entry: str(entry["token"]), limit=limit, before=before)
    tokens = {entry["token"] for entry in page}
    shown = {
        box: [entry for direction, entry in listed if direction == box and entry["token"] in tokens]
        for box in ("sent", "received")
    }
    return {**shown, **rest}


def _progress(row: rows.Invitation, status: str) -> str:
    """Return how far a sent invitation is: `not_mailed`, `mailed`, `fetched`, `other_key`, or how it ended."""
    if status != "open":
        return status
    if row.other_key:
        return "other_key"
    if row.fetched:
        return "fetched"
    return "mailed" if row.emailed else "not_mailed"


def broker_documents(settings: Settings, user_id: str, waiting: Mapping[str, int]) -> list[Document]:
    """Return {url, first, email, signed_in, answers, since, error, waiting} of each broker, the first one first.

    `waiting`: how many writes wait for each. `answers`, `since` and `error` are a running daemon's to say: whether it
    answers and since when, None if it was not asked, and what is wrong.
    """
    return [
        {
            "url": each.url,
            "first": number == 0,
            "email": user_id,
            "signed_in": bool(each.token),
            "answers": None,
            "since": None,
            "error": None,
            "waiting": waiting.get(each.url, 0),
        }
        for number, each in enumerate(settings.sign_ins)
    ]


class InviterKey(NamedTuple):
    """The root key in a received invitation: its fingerprint, and whether the address that was pasted verifies it, or
    the one of an earlier invitation did. `other`: the sender is known by another root key. `unread`: how many fields of
    the invitation this version does not know.
    """

    fingerprint: str
    by_address: bool
    before: bool
    other: bool
    unread: int

    @property
    def verified(self) -> bool:
        return self.by_address or self.before


def inviter_key(db: sqlite3.Connection, row: rows.Invitation) -> InviterKey:
    """Return what is known of the key of a received invitation. One that would be refused is never verified."""
    invitation, signed = open_as(Invitation, row.raw)
    root = open_as(DeviceSet, invitation.device_set)[0].root
    contact = contacts.get(db, row.peer)
    same = contact is not None and contact.root == root
    forgotten = contact is not None and bool(contact.forgotten)
    membership = memberships.newest(db, invitation.issuer_device)
    has_left = membership is not None and (membership.user_id, membership.standing) != (row.peer, "member")
    other = contact is not None and not same and not forgotten
    refused = other or (same and forgotten) or has_left
    return InviterKey(
        str(fingerprints.fingerprint(root)),
        by_address=bool(row.verified) and not refused,
        before=same and bool(contact and contact.verified) and not refused,
        other=other,
        unread=len(signed.ignored),
    )
