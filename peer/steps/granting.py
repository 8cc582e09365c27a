"""Trust edges once they exist: edit, pause, resume, revoke, block, and their effect at the other side."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import NO_FIX, Conflict, NotFound
from peer.protocol.signing import Signed, open_as
from peer.protocol.statements import DeviceSet, EdgeChange, Revocation
from peer.steps import invitation_answers, inviting, receiving, sending
from peer.steps.effects import InvitationsChanged, PeopleChanged, StopRunsOfEdge
from peer.steps.transaction import Transaction
from peer.store import contacts, dispatches, edges, invitations, outbox, rows
from peer.trust import aliases, edge_lifecycle, scopes


def get_granted(db: sqlite3.Connection, user_id: str) -> rows.Edge:
    """Return the open edge that this user was granted here. Raises NotFound."""
    edge = edges.current(db, user_id, "incoming")
    if edge is None or edge.status not in edges.OPEN:
        raise NotFound(f"{user_id} may not dispatch to you: there is no trust edge", fix=_who_may_be_meant(db, user_id))
    return edge


def _who_may_be_meant(db: sqlite3.Connection, user_id: str) -> str:
    """Return a fix for an address that fits nobody here: contacts with a similar one, and where all are listed."""
    meant = "" if contacts.get(db, user_id) else contacts.did_you_mean(db, user_id)
    return f"{meant} `dispatch contacts` lists them" if meant else "see `dispatch contacts`"


def edit(
    tx: Transaction,
    user_id: str,
    scope: scopes.Scope,
    *,
    mcp_commands: Mapping[str, str] | None = None,
    git_folders: Mapping[str, str] | None = None,
) -> rows.Edge:
    """Replace the scope of a granted edge, delete rules outside it, and queue its summary for the other side.

    `mcp_commands`: MCP server → the command to pin, as JSON; None if the edit does not name the servers. `git_folders`:
    folder → the pin of its repository's folder, as JSON; None if it does not name the folders.
    """
    edge = get_granted(tx.db, user_id)
    if mcp_commands is not None:
        edges.pin_mcp_servers(tx.db, edge.edge_id, mcp_commands)
    if git_folders is not None:
        edges.pin_git_folders(tx.db, edge.edge_id, git_folders)
    edges.set_scope(tx.db, edge.edge_id, scopes.encode(scope).decode(), tx.now)
    kept = rules_that_would_act(tx.db, edge, scope)
    for rule in edges.rules(tx.db, edge.edge_id):
        if rule not in kept:
            edges.remove_rule(tx.db, edge.edge_id, rule.rule_id)
    _queue_change(tx, edge, edge.status, scope)
    tx.note(PeopleChanged())
    return get_granted(tx.db, user_id)


def rules_that_would_act(db: sqlite3.Connection, edge: rows.Edge, scope: scopes.Scope) -> list[rows.EdgeRule]:
    """Return the stored `always` rules of an edge that cover calls which `scope` permits, oldest first."""
    stored = {edge_lifecycle.Rule(row.tool, row.pattern, row.reach): row for row in edges.rules(db, edge.edge_id)}
    return [stored[rule] for rule in edge_lifecycle.rules_within(stored, scope)]


def set_alias(tx: Transaction, user_id: str, alias: str) -> None:
    """Give a contact a local name. Raises NotFound, Conflict when another contact has it."""
    _contact(tx.db, user_id)
    for contact in contacts.every(tx.db):
        if alias and contact.user_id != user_id and aliases.key(contact.alias) == aliases.key(alias):
            raise Conflict(f"{contact.user_id} already has the alias {contact.alias}", fix="choose another name")
    contacts.set_alias(tx.db, user_id, alias)
    tx.note(PeopleChanged())


MAX_TYPED = 8
"""Addresses of one device: half of those that one dial tries."""


def type_address(tx: Transaction, user_id: str, address: str, device: str | None) -> list[str]:
    """Remember an address of a contact's device, of all their devices without one. Returns the devices.

    Raises NotFound, Conflict when a device has as many as are remembered.
    """
    devices = _devices_named(tx.db, user_id, device)
    known = contacts.typed_addresses(tx.db, user_id)
    for each in devices:
        if address not in known.get(each, ()) and len(known.get(each, ())) >= MAX_TYPED:
            raise Conflict(
                f"device {each[-8:]} of {user_id} already has {MAX_TYPED} addresses that you added",
                fix="remove one of them first",
            )
        contacts.type_address(tx.db, each, address, tx.now)
    tx.note(PeopleChanged())
    return devices


def remove_address(tx: Transaction, user_id: str, address: str, device: str | None) -> list[str]:
    """Forget an address that was typed, of one device or of all. Returns the devices. Raises NotFound."""
    devices = _devices_named(tx.db, user_id, device)
    found = [each for each in devices if contacts.remove_typed_address(tx.db, each, address)]
    if not found:
        raise NotFound(f"{address} is not an address that you added for {user_id}", fix="see `dispatch contacts`")
    tx.note(PeopleChanged())
    return found


def _devices_named(db: sqlite3.Connection, user_id: str, device: str | None) -> list[str]:
    """Return a contact's devices, or the one that is meant. Raises NotFound."""
    devices = [each.device for each in contacts.devices(db, user_id)]
    if not devices:
        raise NotFound(f"{user_id} is not a contact of yours", fix=_who_may_be_meant(db, user_id))
    if device is not None and device not in devices:
        raise NotFound(
            f"{device} is not a device of {user_id}", fix=f"leave out the /p2p/ part, or name {' or '.join(devices)}"
        )
    return devices if device is None else [device]


def remove_rule(db: sqlite3.Connection, user_id: str, rule_id: int) -> rows.Edge:
    """Delete a stored `always` rule. Raises NotFound."""
    edge = get_granted(db, user_id)
    if not edges.remove_rule(db, edge.edge_id, rule_id):
        raise NotFound(f"that edge has no rule {rule_id}", fix=f"see `dispatch trust show {user_id}`")
    return edge


def set_paused(tx: Transaction, user_id: str, *, paused: bool) -> rows.Edge:
    """Pause or resume a granted edge. Raises NotFound, Conflict."""
    edge = get_granted(tx.db, user_id)
    status = edge_lifecycle.next_status(edge.status, "pause" if paused else "resume")
    edges.set_status(tx.db, edge.edge_id, status, tx.now)
    _queue_change(tx, edge, status, scopes.decode(edge.scope))
    return get_granted(tx.db, user_id)


def revoke(tx: Transaction, user_id: str) -> rows.Edge:
    """End a granted edge: stop its runs, cancel what waits, drop what is undelivered. Raises NotFound.

    The results of the cancellations and the revocation itself are still sent.
    """
    edge = get_granted(tx.db, user_id)
    status = edge_lifecycle.next_status(edge.status, "revoke")
    edges.set_status(tx.db, edge.edge_id, status, tx.now)
    outbox.purge_edge(tx.db, edge.edge_id)
    for row in dispatches.in_states(
        tx.db, "received", ("arriving", "pending", "accepted", "running", "held"), edge_id=edge.edge_id
    ):
        receiving.cancel(tx, row, reason="the trust edge was revoked", code=403)
    # By edge, not by state: a run must not outlive its edge, whatever the store has as its dispatch's state.
    tx.note(StopRunsOfEdge(edge.edge_id))
    for row in dispatches.in_states(tx.db, "received", ("completed", "failed"), edge_id=edge.edge_id):
        # Files that the sender has not fetched yet are no longer served.
        dispatches.stop_serving_returned(tx.db, row.dispatch_id)
    device = _device_of(tx.db, edge)
    if device is not None:
        tx.post(tx.context.sign_for(Revocation, edge.user_id, device, edge_id=edge.edge_id), edge_id=edge.edge_id)
    tx.note(PeopleChanged())
    ended = edges.get(tx.db, edge.edge_id)
    assert ended is not None
    return ended


def block(tx: Transaction, user_id: str) -> None:
    """Revoke the user's edge, drop what is queued for them, and refuse what they send from now on.

    The revocation and the results it causes are still delivered; after the last one their devices may not connect.
    """
    for device in contacts.devices(tx.db, user_id):
        outbox.purge_device(tx.db, device.device)
    edge = edges.current(tx.db, user_id, "incoming")
    if edge is not None and edge.status in edges.OPEN:
        revoke(tx, user_id)
    for invitation in invitations.every(tx.db):
        if (invitation.direction, invitation.peer, invitation.status) == ("received", user_id, "open"):
            invitation_answers.refuse(tx, invitation)
    contacts.block(tx.db, user_id, tx.now)
    tx.note(PeopleChanged())


def unblock(tx: Transaction, user_id: str) -> None:
    """Refuse no longer what a user sends. Raises NotFound if they are not blocked."""
    if not contacts.is_blocked(tx.db, user_id):
        raise NotFound(f"{user_id} is not blocked", fix="see who is: `dispatch contacts`")
    contacts.unblock(tx.db, user_id)
    tx.note(PeopleChanged())


def forget_key(tx: Transaction, user_id: str) -> None:
    """Believe a contact's root key no longer: end all edges with them and forget their devices.

    The next invitation or answer of theirs that this person takes brings the new key. Nothing is sent to the old
    devices, not even the revocation: whoever has them may not be the contact. Open invitations that they may have seen
    are withdrawn, with the secret that would verify an answer. Raises NotFound, Conflict.
    """
    contact = _contact(tx.db, user_id)
    if contact.forgotten:
        raise Conflict(
            f"you have already forgotten the key of {user_id}",
            fix=f"to take the new one: `dispatch invite {user_id}`, or answer their invitation",
        )
    for edge in edges.every(tx.db):
        if edge.user_id == user_id and edge.status in edges.OPEN:
            _end_with_key(tx, edge)
    for device in contacts.devices(tx.db, user_id):
        outbox.purge_device(tx.db, device.device)
    for row in invitations.every(tx.db):
        if (row.direction, row.peer, row.status) == ("sent", user_id, "open") and not row.other_key:
            inviting.discard(tx, row.token)
    contacts.forget_key(tx.db, user_id, tx.now)
    tx.note(PeopleChanged())
    tx.note(InvitationsChanged())


def _end_with_key(tx: Transaction, edge: rows.Edge) -> None:
    """End an edge of either direction whose other side's key is forgotten."""
    if edge.direction == "incoming":
        invitations.drop_writes_of(tx.db, edge.invitation_id)  # an acceptance that is sealed to the old devices
        revoke(tx, edge.user_id)
    else:
        edges.set_status(tx.db, edge.edge_id, "revoked", tx.now)
        sending.on_edge_ended(tx, edge.edge_id, why=sending.KEY_FORGOTTEN)


def believe_key_again(tx: Transaction, user_id: str) -> None:
    """Undo `forget_key`, unless a new key has taken its place. Raises NotFound, Conflict.

    What the contact granted is in force again, as they were told of no end. What they were granted stays ended, and
    they are told so now; so do dispatches.
    """
    contact = _contact(tx.db, user_id)
    if not contact.forgotten:
        raise Conflict(f"the key of {user_id} that you know is not forgotten", fix="see `dispatch contacts`")
    contacts.believe_key_again(tx.db, user_id)
    device_set, _ = open_as(DeviceSet, contact.device_set)
    contacts.pin(tx.db, device_set, contact.device_set, verified=False, now=tx.now)
    device = next((each.device for each in contacts.devices(tx.db, user_id)), None)
    for edge in edges.every(tx.db):
        if (edge.user_id, edge.status, edge.changed) != (user_id, "revoked", contact.forgotten):
            continue
        if edge.direction == "outgoing":
            edges.set_status(tx.db, edge.edge_id, "active", tx.now)
        elif device is not None:
            tx.post(tx.context.sign_for(Revocation, user_id, device, edge_id=edge.edge_id), edge_id=edge.edge_id)
    tx.note(PeopleChanged())


def _contact(db: sqlite3.Connection, user_id: str) -> rows.Contact:
    contact = contacts.get(db, user_id)
    if contact is None:
        raise NotFound(f"{user_id} is not a contact of yours", fix=_who_may_be_meant(db, user_id))
    return contact


def on_edge_change(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Handle the trustor's change, pause or resumption of an edge granted to this user."""
    statement: EdgeChange = signed.statement
    edge = _get_edge(tx.db, statement.edge_id, statement.issuer_user, statement.issuer_device)
    if edge.status not in ("active", "paused"):
        return Acknowledgement(200, f"the edge had already ended: {edge.status}")
    scope = scopes.encode_summary(scopes.decode_summary(statement.scope))  # only what this version understands
    edges.set_scope(tx.db, edge.edge_id, scope, tx.now)
    edges.set_status(tx.db, edge.edge_id, statement.edge_status, tx.now)
    tx.note(PeopleChanged())
    return Acknowledgement(200)


def on_revocation(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Handle the trustor's revocation of an edge granted to this user."""
    statement: Revocation = signed.statement
    edge = _get_edge(tx.db, statement.edge_id, statement.issuer_user, statement.issuer_device)
    if edge.status != "revoked":
        edges.set_status(tx.db, edge.edge_id, "revoked", tx.now)
        sending.on_edge_ended(tx, edge.edge_id)
        tx.note(PeopleChanged())
    return Acknowledgement(200)


def _get_edge(db: sqlite3.Connection, edge_id: str, user_id: str, device: str) -> rows.Edge:
    edge = edges.get(db, edge_id)
    if edge is None or edge.direction != "outgoing" or edge.user_id != user_id or edge.device != device:
        raise NotFound("no such edge", fix=NO_FIX)
    return edge


def _queue_change(tx: Transaction, edge: rows.Edge, status: str, scope: scopes.Scope) -> None:
    if edge.status == "offered":
        return  # the queued acceptance states the scope; on_confirmation sends what changed since
    summary = scopes.encode_summary(scopes.summary(scope))
    device = _device_of(tx.db, edge)
    if device is None:
        return
    signed = tx.context.sign_for(
        EdgeChange, edge.user_id, device, edge_id=edge.edge_id, edge_status=status, scope=summary
    )
    tx.post(signed, edge_id=edge.edge_id)


def _device_of(db: sqlite3.Connection, edge: rows.Edge) -> str | None:
    """Return the other user's device for a granted edge, None if the user has none. One device per person for now."""
    devices = contacts.devices(db, edge.user_id)
    return devices[0].device if devices else None
