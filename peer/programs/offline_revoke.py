"""A revocation without a daemon: in force as soon as it is in the store."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from peer.machine import identity
from peer.machine.lock import AlreadyRunning, state_lock
from peer.machine.state_folder import StateFolder
from peer.protocol.documents import Document
from peer.protocol.errors import Unavailable
from peer.steps import granting
from peer.steps.context import Context
from peer.steps.transaction import Transaction
from peer.store import connection, contacts
from peer.store.blobs import Blobs
from peer.store.database import Store


def revoke(folder: StateFolder, peer: str) -> Document:
    """Revoke the edge granted to `peer`, an address or alias, in the store: {status, trust_link_id}.

    Raises Invalid, NotFound, Unavailable.
    """
    try:
        with state_lock(folder):
            store = Store.open(folder.store)
            try:
                context = Context(folder, identity.load(folder), store, Blobs(folder.blobs))
            finally:
                store.close()
            with closing(connection.connect(folder.store)) as db:
                try:
                    with connection.writing(db):
                        edge = granting.revoke(Transaction(db, context), contacts.user_named(db, peer))
                except sqlite3.Error as error:
                    raise connection.as_error(error) from error
    except AlreadyRunning as error:
        raise Unavailable("a daemon is just starting or stopping", fix="try again in a moment") from error
    return {"status": edge.status, "trust_link_id": edge.edge_id}
