"""What two daemons keep of dispatches that came to nothing, while they run."""

from __future__ import annotations

import os
from pathlib import Path

from tests.system.world import Person, eventually

Pair = tuple[Person, Person]


def test_files_of_dispatches_that_came_to_nothing_are_gone_while_both_run(pair: Pair, tmp_path: Path) -> None:
    """Without the task that removes them they stayed until a restart."""
    alice, bob = pair
    before = alice.blobs(), bob.blobs()
    ids = []
    for number in range(8):
        files = []
        for name in ("own", "common"):
            path = tmp_path / f"{name}-{number}.bin"
            path.write_bytes(os.urandom(300_000) if name == "own" else bytes(300_000))
            files.append(str(path))
        ids.append(alice.client.send(bob.email, f"Number {number}", files=files)["dispatch_id"])
    for dispatch_id in ids:
        alice.state_of(dispatch_id, "pending")
    for number, dispatch_id in enumerate(ids):
        if number % 2:
            alice.client.cancel(dispatch_id)
        else:
            bob.client.decline(dispatch_id)
    for number, dispatch_id in enumerate(ids):
        for person in pair:
            person.state_of(dispatch_id, "cancelled" if number % 2 else "declined")
    eventually(lambda: (alice.blobs(), bob.blobs()) == before, what="the files removed on both sides")
    for person in pair:
        files = person.client.dispatch(ids[0])["files"]
        assert [(file["ready"], file["removed"]) for file in files] == [(False, True)] * 2
