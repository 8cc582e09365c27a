"""Which device belongs to which user: pinning a contact's device-set, and the memberships that devices sign.

Of each device the membership with the highest counter wins, whoever lists the device. So one contact's device-set
cannot claim a device of another contact, and a device that left stays out.
"""

from __future__ import annotations

import sqlite3

from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import NO_FIX, Conflict, Forbidden
from peer.protocol.signing import Signed, open_as
from peer.protocol.statements import DeviceSet, Membership
from peer.steps import sending
from peer.steps.effects import PeopleChanged
from peer.steps.transaction import Transaction
from peer.store import contacts, edges, memberships, outbox, rows


def pin(
    tx: Transaction, device_set: DeviceSet, signed: Signed, *, issuer: str, verified: bool, by_hand: bool = False
) -> None:
    """Pin a user's root key and devices from the device-set that `issuer`, a device of theirs, sent.

    Raises what `check_key` does, before anything is written; Forbidden if `issuer` is then not a device of the user;
    Conflict for two memberships of one device with the same counter.
    """
    user_id = device_set.issuer_user
    check_key(tx.db, device_set, by_hand=by_hand)
    known = contacts.get(tx.db, user_id)
    if known is not None and known.root != device_set.root:
        contacts.replace_key(tx.db, device_set, signed.raw)
    for entry in device_set.devices:
        membership, _ = open_as(Membership, entry.membership)
        _keep(tx.db, membership, entry.membership)
    contacts.pin(tx.db, device_set, signed.raw, verified=verified, now=tx.now)
    pinned = contacts.device(tx.db, issuer)
    if pinned is None or pinned.user_id != user_id:
        raise Forbidden(_no_longer(user_id), fix="do not trust it")


def check_key(db: sqlite3.Connection, device_set: DeviceSet, *, by_hand: bool) -> None:
    """Check that the root key of a device-set may be its user's, as far as is known here.

    `by_hand`: this person accepts this very invitation, whose fingerprint they see. Raises Forbidden if another root is
    pinned that this person has not forgotten, for the root that they forgot, and unless `by_hand` for one that they
    forgot before.
    """
    user_id = device_set.issuer_user
    known = contacts.get(db, user_id)
    if known is None or (known.root == device_set.root and not known.forgotten):
        return
    if not known.forgotten:
        raise Forbidden(
            f"{user_id} now has a different root key from the one you know",
            fix=f"ask {user_id} in person or by phone whether they made a new one; until you know, nothing from them "
            f"is accepted; if they did: `dispatch trust forget-key {user_id}`",
        )
    if known.root == device_set.root:
        raise Forbidden(
            f"this is the root key of {user_id} that you forgot",
            fix=f"ask {user_id} in person or by phone; if it is theirs after all: "
            f"`dispatch trust forget-key {user_id} --undo`",
        )
    if not by_hand and any(former.root == device_set.root for former in contacts.former_keys(db, user_id)):
        raise Forbidden(
            f"this is an older root key of {user_id}, which you forgot",
            fix=f"ask {user_id} in person or by phone; if it is theirs after all, have them invite you",
        )


def check_issuer(db: sqlite3.Connection, device_set: DeviceSet, issuer: str) -> None:
    """Raise Forbidden where `pin` would, as far as is known here: the device left its user after this device-set."""
    known = memberships.newest(db, issuer)
    if known is None or (known.user_id, known.standing) == (device_set.issuer_user, "member"):
        return
    listed = [open_as(Membership, entry.membership)[0] for entry in device_set.devices if entry.device == issuer]
    if all(each.counter <= known.counter for each in listed):
        raise Forbidden(_no_longer(device_set.issuer_user), fix="do not trust it")


def _no_longer(user_id: str) -> str:
    return f"the device that signed is no longer one of {user_id}'s devices"


def on_membership(tx: Transaction, signed: Signed) -> Acknowledgement:
    """Handle a contact's device leaving its user, or changing its sealing key. Raises Forbidden, Conflict.

    A device that joins another user is pinned from that user's device-set, not from here.
    """
    membership: Membership = signed.statement
    contact = contacts.get(tx.db, membership.issuer_user)
    if contact is None or contact.root != membership.root:
        raise Forbidden("that membership is under a different root key from the one you know", fix=NO_FIX)
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
            # The device that granted it has left, so nothing sent over this edge would be accepted.
            edges.set_status(tx.db, edge.edge_id, "revoked", tx.now)
            sending.on_edge_ended(tx, edge.edge_id)
    return Acknowledgement(200)


def _keep(db: sqlite3.Connection, membership: Membership, raw: bytes) -> bool:
    """Store a membership if it is newer than the stored one of its device; return whether it was."""
    known = memberships.newest(db, membership.issuer_device)
    if known is not None and membership.counter == known.counter and raw != known.raw:
        raise Conflict("the device signed two memberships with one counter", fix="do not trust it")
    if known is not None and membership.counter <= known.counter:
        return False
    if known is not None and known.user_id != membership.issuer_user:
        contacts.drop_device(db, membership.issuer_device)  # the device itself signed that it joined another user
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
