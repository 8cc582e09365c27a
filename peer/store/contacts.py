"""Contacts, their devices, and blocked users. SQL only; what may be pinned is decided in peer.steps."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from peer.protocol import names
from peer.protocol.errors import NotFound
from peer.protocol.statements import DeviceSet
from peer.store.rows import Contact, ContactDevice, FormerKey, all_of, one
from peer.trust import aliases


def get(db: sqlite3.Connection, user_id: str) -> Contact | None:
    """Return the contact with this user id."""
    return one(Contact, db.execute("SELECT * FROM contacts WHERE user_id = ?", (user_id,)).fetchone())


def every(db: sqlite3.Connection) -> list[Contact]:
    """Return all contacts, ordered by user id."""
    return all_of(Contact, db.execute("SELECT * FROM contacts ORDER BY user_id").fetchall())


def user_named(db: sqlite3.Connection, name: str) -> str:
    """Return the user id for an e-mail address or a contact's alias. Raises Invalid, NotFound."""
    if "@" in name:
        return names.user_id(name)
    for contact in every(db):
        if contact.alias and aliases.key(contact.alias) == aliases.key(name):
            return contact.user_id
    raise NotFound(
        f"no contact is called {name!r}",
        fix=f"{did_you_mean(db, name) or 'name them by their e-mail address:'} `dispatch contacts` lists them",
    )


def did_you_mean(db: sqlite3.Connection, name: str) -> str:
    """Return a fix that names the contacts who may be meant by this name or address, "" if there are none."""
    found = aliases.likely(name, ((contact.user_id, contact.alias or "") for contact in every(db)))
    return f"did you mean {' or '.join(found)}?" if found else ""


def pin(db: sqlite3.Connection, device_set: DeviceSet, raw: bytes, *, verified: bool, now: int) -> None:
    """Store a user's root and device-set; a verified contact stays verified. The caller has compared the roots.

    A listed device becomes the user's only if its newest membership, which the caller has stored, agrees.
    """
    db.execute(
        "INSERT INTO contacts (user_id, root, device_set, epoch, verified, created) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (user_id) DO UPDATE SET device_set = excluded.device_set, epoch = excluded.epoch, "
        "verified = max(verified, excluded.verified) WHERE excluded.epoch >= epoch",
        (device_set.issuer_user, device_set.root, raw, device_set.epoch, int(verified), now),
    )
    if verified:
        db.execute("UPDATE contacts SET verified = 1 WHERE user_id = ?", (device_set.issuer_user,))
    current = get(db, device_set.issuer_user)
    if current is None or current.device_set != raw:
        return
    listed = {entry.device: entry.name for entry in device_set.devices}
    db.execute(
        "DELETE FROM contact_devices WHERE user_id = ? AND device NOT IN (SELECT value FROM json_each(?))",
        (device_set.issuer_user, json.dumps(list(listed))),
    )
    for device, name in listed.items():
        db.execute(
            "INSERT INTO contact_devices (device, user_id, sealing_key, name) "
            "SELECT device, user_id, sealing_key, ? FROM memberships "
            "WHERE device = ? AND user_id = ? AND root = ? AND standing = 'member' "
            "ON CONFLICT (device) DO UPDATE SET sealing_key = excluded.sealing_key, name = excluded.name "
            "WHERE user_id = excluded.user_id",
            (name, device, device_set.issuer_user, device_set.root),
        )


def forget_key(db: sqlite3.Connection, user_id: str, now: int) -> None:
    """Mark the pinned root key as one that is not believed any more, and remove all devices under it."""
    db.execute("UPDATE contacts SET forgotten = ? WHERE user_id = ?", (now, user_id))
    db.execute("DELETE FROM contact_devices WHERE user_id = ?", (user_id,))


def believe_key_again(db: sqlite3.Connection, user_id: str) -> None:
    """Undo `forget_key` but for the devices; the caller pins the device-set anew."""
    db.execute("UPDATE contacts SET forgotten = 0 WHERE user_id = ?", (user_id,))


def replace_key(db: sqlite3.Connection, device_set: DeviceSet, raw: bytes) -> None:
    """Put the root key of a device-set in place of a forgotten one, which is kept; the caller pins the device-set."""
    db.execute(
        "INSERT INTO former_keys (user_id, root, device_set, forgotten) "
        "SELECT user_id, root, device_set, forgotten FROM contacts WHERE user_id = ? "
        "ON CONFLICT DO UPDATE SET device_set = excluded.device_set, forgotten = excluded.forgotten",
        (device_set.issuer_user,),
    )
    db.execute(
        "UPDATE contacts SET root = ?, device_set = ?, epoch = ?, verified = 0, forgotten = 0 WHERE user_id = ?",
        (device_set.root, raw, device_set.epoch, device_set.issuer_user),
    )


def former_keys(db: sqlite3.Connection, user_id: str) -> list[FormerKey]:
    """Return a contact's keys that others have replaced, in the order in which they were forgotten."""
    rows = db.execute("SELECT * FROM former_keys WHERE user_id = ? ORDER BY forgotten", (user_id,))
    return all_of(FormerKey, rows.fetchall())


def drop_device(db: sqlite3.Connection, device_id: str) -> None:
    """Remove a device from its contact."""
    db.execute("DELETE FROM contact_devices WHERE device = ?", (device_id,))


def set_sealing_key(db: sqlite3.Connection, device_id: str, sealing_key: bytes) -> None:
    """Store the sealing key of a device's newest membership."""
    db.execute("UPDATE contact_devices SET sealing_key = ? WHERE device = ?", (sealing_key, device_id))


def set_hello(db: sqlite3.Connection, device_id: str, raw: bytes, counter: int) -> None:
    """Store a device's signed hello."""
    db.execute("UPDATE contact_devices SET hello = ?, hello_counter = ? WHERE device = ?", (raw, counter, device_id))


def devices(db: sqlite3.Connection, user_id: str | None = None) -> list[ContactDevice]:
    """Return the devices of one user, or of all contacts that are not blocked."""
    if user_id is not None:
        rows = db.execute("SELECT * FROM contact_devices WHERE user_id = ? ORDER BY device", (user_id,))
    else:
        rows = db.execute(
            "SELECT * FROM contact_devices WHERE user_id NOT IN (SELECT user_id FROM blocked) ORDER BY device"
        )
    return all_of(ContactDevice, rows.fetchall())


def blocked_with_outbox(db: sqlite3.Connection) -> list[ContactDevice]:
    """Return the devices of blocked users with statements in the outbox (the revocation of their edge)."""
    rows = db.execute(
        "SELECT * FROM contact_devices "
        "WHERE user_id IN (SELECT user_id FROM blocked) AND device IN (SELECT device FROM outbox) ORDER BY device"
    )
    return all_of(ContactDevice, rows.fetchall())


def device(db: sqlite3.Connection, device_id: str) -> ContactDevice | None:
    """Return the contact device with this peer id."""
    return one(ContactDevice, db.execute("SELECT * FROM contact_devices WHERE device = ?", (device_id,)).fetchone())


def set_alias(db: sqlite3.Connection, user_id: str, alias: str) -> None:
    """Set a contact's local alias; "" removes it."""
    db.execute("UPDATE contacts SET alias = ? WHERE user_id = ?", (alias, user_id))


def remember_addresses(db: sqlite3.Connection, device_id: str, addresses: Sequence[str], *, seq: int, now: int) -> None:
    """Store the addresses of a device's peer record of this number, unless those of a newer one are stored."""
    db.execute(
        "UPDATE contact_devices SET addresses = ?, presence_seq = ?, last_seen = ? "
        "WHERE device = ? AND presence_seq <= ?",
        (json.dumps(list(addresses)), seq, now, device_id, seq),
    )


def typed_addresses(db: sqlite3.Connection, user_id: str | None = None) -> dict[str, tuple[str, ...]]:
    """Return {device: multiaddrs} as this person typed them, of one user's devices or of all, the oldest first."""
    found: dict[str, tuple[str, ...]] = {}
    for device_id, address in db.execute(
        "SELECT device, address FROM typed_addresses JOIN contact_devices USING (device) "
        "WHERE ?1 IS NULL OR user_id = ?1 ORDER BY device, added, address",
        (user_id,),
    ):
        found[device_id] = (*found.get(device_id, ()), address)
    return found


def type_address(db: sqlite3.Connection, device_id: str, address: str, now: int) -> None:
    """Add an address to a device's typed ones."""
    db.execute(
        "INSERT INTO typed_addresses (device, address, added) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (device_id, address, now),
    )


def remove_typed_address(db: sqlite3.Connection, device_id: str, address: str) -> bool:
    """Take an address out of a device's typed ones; return whether it was there."""
    return bool(
        db.execute("DELETE FROM typed_addresses WHERE device = ? AND address = ?", (device_id, address)).rowcount
    )


def block(db: sqlite3.Connection, user_id: str, now: int) -> None:
    """Block a user."""
    db.execute("INSERT INTO blocked (user_id, since) VALUES (?, ?) ON CONFLICT DO NOTHING", (user_id, now))


def unblock(db: sqlite3.Connection, user_id: str) -> None:
    """Unblock a user."""
    db.execute("DELETE FROM blocked WHERE user_id = ?", (user_id,))


def blocked(db: sqlite3.Connection) -> list[str]:
    """Return all blocked users."""
    return [row[0] for row in db.execute("SELECT user_id FROM blocked ORDER BY user_id")]


def is_blocked(db: sqlite3.Connection, user_id: str) -> bool:
    """Return whether this user is blocked."""
    return db.execute("SELECT 1 FROM blocked WHERE user_id = ?", (user_id,)).fetchone() is not None
