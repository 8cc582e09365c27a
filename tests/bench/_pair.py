"""Alice and Bob for measurements: a broker, their daemons, an edge from her to him, their stores seen from outside."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from peer.machine import identity
from peer.protocol.content import Content
from peer.protocol.statements import Dispatch
from peer.steps.context import Context
from peer.store import connection, dispatches, outbox, rows
from peer.store.blobs import Blobs
from peer.store.database import Store
from tests.system.world import Person, World, connect

DAY_MS = 86_400_000
"""What was taken in so long ago does not count for the daily rate."""
LOOK_SECONDS = 0.0003
"""Between looks at a store: small beside what is measured, and little work for the machine."""


@contextmanager
def pair(**scope: Any) -> Iterator[tuple[Person, Person]]:
    """Give Alice, who may dispatch to Bob within `scope`, and Bob; both daemons up and connected."""
    with tempfile.TemporaryDirectory(prefix="dispatch-bench-") as folder:
        world = World(Path(folder))
        try:
            alice, bob = world.person("alice"), world.person("bob")
            connect(alice, bob, **scope)
            yield alice, bob
        finally:
            world.close()


class Watch:
    """Looks into a person's store while their daemon has it, and says when a dispatch is in a state there."""

    def __init__(self, person: Person) -> None:
        uri = f"{person.state.store.as_uri()}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)

    def until(self, dispatch_id: str, state: str, *, within: float = 120.0) -> float:
        """Wait; return the time (perf_counter) at which it was seen. Raises TimeoutError."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            row = self._db.execute("SELECT state FROM dispatches WHERE dispatch_id = ?", (dispatch_id,)).fetchone()
            if row is not None and row[0] == state:
                return time.perf_counter()
            time.sleep(LOOK_SECONDS)
        raise TimeoutError(f"{dispatch_id} is not {state} after {within:g} s")

    def close(self) -> None:
        self._db.close()


def fill(alice: Person, bob: Person, count: int) -> None:
    """Put `count` dispatches of hers, validly signed, into the inbox of Bob; both daemons are down meanwhile."""
    who = identity.load(bob.state)
    (edge,) = alice.rows("SELECT edge_id FROM edges WHERE direction = 'outgoing'")
    store = Store.open(alice.state.store)
    hers = Context(alice.state, identity.load(alice.state), store, Blobs(alice.state.blobs))
    with closing(connection.connect(bob.state.store)) as db, connection.writing(db):
        for number in range(count):
            now = hers.clock()
            task = f"Number {number}: look why the cart adds up wrongly when it holds more than one of a thing"
            signed = hers.sign_for(
                Dispatch,
                who.user_id,
                who.device,
                created=now,
                expires=now + DAY_MS,
                edge_id=edge[0],
                content=Content(task=task),
            )
            row = rows.Dispatch(
                dispatch_id=signed.statement.id,
                direction="received",
                edge_id=edge[0],
                peer=hers.identity.user_id,
                device=hers.identity.device,
                state="pending",
                raw=signed.raw,
                digest=signed.digest,
                task=task,
                created=now,
                expires=now + DAY_MS,
                updated=now,
                attempt=0,
                interrupted=0,
                cwd="",
                code=0,
                message="",
                fix="",
                decision=b"",
                result=b"",
            )
            dispatches.add(db, row)
            outbox.remember(
                db, rows.Seen(row.device, row.dispatch_id, row.digest, 200, "in the inbox", "", now - DAY_MS)
            )
    store.close()
