"""Whose devices are whose: a contact pinned with its device-set, and what a device itself signs of where it belongs.

Of each device the membership with the highest counter holds, whoever lists the device: what one contact's device-set
says never takes a device from another contact, and a device that left stays gone.
"""

from __future__ import annotations

import sqlite3

from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import Conflict, Forbidden
from peer.protocol.statements import DeviceSet, Membership, Signed, open_as
from peer.steps import sending
from peer.steps.effects import PeopleChanged
from peer.steps.transaction import Transaction
from peer.store import contacts, edges, memberships, outbox, rows


def pin(tx: Transaction, device_set: DeviceSet, signed: Signed, *, issuer: str, verified: bool) -> None:
    """Remember a user by the root and the devices of a device-set that `issuer`, a device of theirs, brought.

    Raises Forbidden where another root is pinned, and where by all that is pinned `issuer` is not the user's device;
    Conflict for two memberships of one device with one counter.
    """
    user_id = device_set.issuer_user
    known = contacts.get(tx.db, user_id)
    if known is not None and known.root != device_set.root:
        raise Forbidden(
            f"{user_id} now has another root key than the one you know",
            fix=f"ask {user_id} by another way whether they made a new one; until then nothing of theirs is taken",
        )
    for entry in device_set.devices:
        membership, _ = open_as(Membership, entry.membership)
        _keep(tx.db, membership, entry.membership)
    contacts.pin(tx.db, device_set, signed.raw, verified=verified, now=tx.now)
    pinned = contacts.device(tx.db, issuer)
    if pinned is None or pinned.user_id != user_id:
        raise Forbidden(f"the device that signed is not among {user_id}'s devices any more", fix="do not trust it")


def on_membership(tx: Transaction, signed: Signed) -> Acknowledgement:
    """A contact's device says that it has left its user, or seals with another key.

    That it is another user's it says in that user's device-set, by which it is pinned. Raises Forbidden, Conflict.
    """
    membership: Membership = signed.statement
    contact = contacts.get(tx.db, membership.issuer_user)
    if contact is None or contact.root != membership.root:
        raise Forbidden("that membership is under another root key than the one you know", fix="")
    if not _keep(tx.db, membership, signed.raw):
        return Acknowledgement(200, "known, or older than what is known")
    device = membership.issuer_device
    tx.note(PeopleChanged())
    if membership.standing == "member":
        contacts.set_sealing_key(tx.db, device, membership.sealing_key)
        return Acknowledgement(200)
    contacts.drop_device(tx.db, device)
    outbox.purge_device(tx.db, device)
    for edge in edges.every(tx.db):
        if (edge.direction, edge.device) == ("outgoing", device) and edge.status in edges.OPEN:
            # The device that granted it is gone, and nothing that is sent over it would be taken in.
            edges.set_status(tx.db, edge.edge_id, "revoked", tx.now)
            sending.edge_ended(tx, edge.edge_id)
    return Acknowledgement(200)


def _keep(db: sqlite3.Connection, membership: Membership, raw: bytes) -> bool:
    """Keep a membership that is newer than the one known of its device; return whether it is."""
    known = memberships.newest(db, membership.issuer_device)
    if known is not None and membership.counter == known.counter and raw != known.raw:
        raise Conflict("the device signed two memberships with one counter", fix="do not trust it")
    if known is not None and membership.counter <= known.counter:
        return False
    if known is not None and known.user_id != membership.issuer_user:
        contacts.drop_device(db, membership.issuer_device)  # it went over to another user, by its own signature
    memberships.keep(
        db,
        rows.Membership(
            device=membership.issuer_device,
            user_id=membership.issuer_user,
            root=membership.root,
            counter=membership.counter,
            standing=membership.standing,
            sealing_key=membership.sealing_key,
            raw=raw,
        ),
    )
    return True
