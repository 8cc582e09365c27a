"""Taking in the files of a dispatch: all of them, durably and in their order, or nothing is left of any."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from peer.client.requests import SendRequest
from peer.node.sending import TAKEN_IN_AT_ONCE, SendService
from peer.protocol.content import MAX_FILE_BYTES
from peer.protocol.errors import DispatchError
from peer.protocol.signing import open_as
from peer.protocol.statements import Dispatch
from peer.steps.context import Context
from peer.steps.journal import Journal
from peer.store.database import Store
from tests.steps.people import Clock, Person, connect


@pytest.fixture
def alice(tmp_path: Path) -> Person:
    """Somebody who may send to bob@example.org."""
    clock = Clock()
    alice, bob = Person(tmp_path, "alice", clock), Person(tmp_path, "bob", clock)
    connect(alice, bob)
    return alice


def service(person: Person) -> SendService:
    context = person.context
    opened = Context(context.state, context.identity, Store.open(context.state.store), context.blobs, context.clock)
    return SendService(Journal(opened, lambda _: None), lambda _: False)


def written(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"{number}.bin" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(os.urandom(300_000 + number))
    return paths


async def test_files_are_named_in_their_order_and_are_whole(
    alice: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every folder that a file was put in is synced before the step is committed, after the last of them was put there.

    Seen to fail without the syncs, and with files in the order in which they were ready.
    """
    paths = written(tmp_path, 3 * TAKEN_IN_AT_ONCE)
    synced: list[tuple[str, int]] = []
    blobs, fsync = alice.context.blobs, os.fsync

    def noting(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), len(list(blobs.folder.glob("??/*")))))

    monkeypatch.setattr(os, "fsync", noting)
    sent = await service(alice).send(
        SendRequest(recipient="bob@example.org", task="Look", files=tuple(map(str, paths)))
    )
    raw = alice.db.execute("SELECT raw FROM dispatches WHERE dispatch_id = ?", (sent["dispatch_id"],)).fetchone()[0]
    files = open_as(Dispatch, raw)[0].content.files
    assert [(file.name, file.digest) for file in files] == [
        (path.name, hashlib.sha256(path.read_bytes()).digest()) for path in paths
    ]
    for file, path in zip(files, paths, strict=True):
        assert blobs.path(file.digest).read_bytes() == path.read_bytes()
    folders = {str(blobs.path(file.digest).parent) for file in files} | {str(blobs.folder)}
    assert folders <= {place for place, kept in synced if kept == len(paths)}
    assert sum(".in-" in place for place, _ in synced) == len(paths), "and each file before"


async def test_nothing_is_left_where_one_cannot_be_taken_in(alice: Person, tmp_path: Path) -> None:
    """The error is that of the first in their order. Seen to fail where those taken in beside it stayed."""
    paths = written(tmp_path, 3 * TAKEN_IN_AT_ONCE)
    paths[2].unlink()
    paths[1].write_bytes(bytes(MAX_FILE_BYTES + 1))
    with pytest.raises(DispatchError) as raised:
        await service(alice).send(SendRequest(recipient="bob@example.org", task="Look", files=tuple(map(str, paths))))
    assert raised.value.code == 413
    assert [path for path in alice.context.blobs.folder.rglob("*") if path.is_file()] == []
    assert alice.db.execute("SELECT count(*) FROM dispatches").fetchone()[0] == 0
