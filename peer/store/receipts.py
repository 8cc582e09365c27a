"""Collects the signed bytes of a receipt from the store. Its format and verification: peer/trust/receipts.py."""

from __future__ import annotations

import sqlite3

from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Conflict, NotFound
from peer.protocol.signing import open_as
from peer.protocol.statements import DeviceSet, Result
from peer.store import connection, contacts, dispatches, edges, landing_reports, rows, trace
from peer.trust.receipts import Receipt


def gather(db: sqlite3.Connection, my_device_set: bytes, dispatch_id: str) -> Receipt:
    """Return the receipt of a dispatch that ended in a result. Raises NotFound, Conflict.

    It has no events where not all of them are here: they were removed later, or there was no room for them.
    """
    row = dispatches.get(db, dispatch_id)
    if row is None:
        raise NotFound(f"no dispatch {dispatch_id}")
    if not row.result:
        raise Conflict(f"there is no receipt yet: this dispatch is {row.state}", fix="wait for its result")
    theirs = _device_set_of(db, row)
    result, _ = open_as(Result, row.result)
    batches = trace.batches(db, dispatch_id, result.attempt)
    told = landing_reports.get(db, dispatch_id)
    mine_first = row.direction == "sent"
    return Receipt(
        dispatch=row.raw,
        decision=row.decision,
        events=tuple(batches) if len(batches) == result.count else (),
        result=row.result,
        landing=told.raw if told is not None else b"",
        sender=my_device_set if mine_first else theirs,
        recipient=theirs if mine_first else my_device_set,
    )


def _device_set_of(db: sqlite3.Connection, row: rows.Dispatch) -> bytes:
    """Return the other side's device-set under the root key by which it was known when its edge was made."""
    contact, edge = contacts.get(db, row.peer), edges.get(db, row.edge_id)
    if contact is None or edge is None:
        raise NotFound(f"{row.peer} is no longer a contact")
    for former in contacts.former_keys(db, row.peer):
        listed = {entry.device for entry in open_as(DeviceSet, former.device_set)[0].devices}
        if edge.created <= former.forgotten and row.device in listed:
            return former.device_set
    return contact.device_set


def open_receipt(folder: StateFolder, my_device_set: bytes, dispatch_id: str) -> Receipt:
    """Return a receipt from a state folder's store, whether or not a daemon runs."""
    db = connection.connect(folder.store, read_only=True)
    try:
        return gather(db, my_device_set, dispatch_id)
    except sqlite3.Error as error:
        raise connection.as_error(error) from error
    finally:
        db.close()
