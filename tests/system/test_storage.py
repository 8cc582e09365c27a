"""What two daemons keep of dispatches that came to nothing, or that ended, while they run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.fixture
def small(pair: Pair) -> Iterator[Pair]:
    """Alice keeps what she is told to in a test, and afterwards as much as anybody."""
    yield pair
    if not pair[0].up:
        pair[0].start()
    pair[0].cli("config", "set", "retention_mb", "")


def test_what_ended_is_thinned_while_the_daemon_runs_and_at_its_start(small: Pair, tmp_path: Path) -> None:
    """By a setting that is put in force at once. What runs stays, and what is left says what it lacks. Seen to fail
    without each call of Storage.wake, and without the settings read anew."""
    alice, bob = small
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will(
        {"say": "working"},
        {"tool": "Bash", "input": {"command": "head -c 1500000 /dev/urandom > /dispatch/out/data.bin"}},
    )
    ids = []
    for number in range(3):
        path = tmp_path / f"in-{number}.bin"
        path.write_bytes(os.urandom(1_500_000))
        ids.append(str(alice.client.send(bob.email, f"Number {number}", files=[str(path)])["dispatch_id"]))
    for dispatch_id in ids:
        alice.state_of(dispatch_id, "pending")
        bob.client.accept(dispatch_id)
        alice.state_of(dispatch_id, "completed")
        fetched(alice, dispatch_id)
    bob.client.edit_trust(alice.email, {"approval": "manual"})
    bob.will({"tool": "Write", "input": {"file_path": "/dispatch/out/a", "content": "b"}})
    waiting = str(alice.client.send(bob.email, "Wait", files=[str(tmp_path / "in-0.bin")])["dispatch_id"])
    alice.state_of(waiting, "pending")
    bob.client.accept(waiting)
    bob.approval_of(waiting)
    oldest, middle, newest = ids
    names = {dispatch_id: digests(alice, dispatch_id) for dispatch_id in [*ids, waiting]}

    # Nine megabytes are here, of three that ended.
    alice.cli("config", "set", "retention_mb", "7")
    eventually(lambda: removed(alice, oldest), what="the oldest thinned")
    eventually(lambda: not names[oldest] - names[waiting] & set(alice.blobs()), what="its files removed")
    assert not removed(alice, middle) and names[middle] | names[newest] | names[waiting] <= set(alice.blobs())
    gone = alice.refused("fetch", oldest, "--to", str(tmp_path / "nothing"))
    assert gone["code"] == 410 and "retention" in gone["message"] and not (tmp_path / "nothing").exists()
    assert alice.cli("watch", oldest, "--json").strip().splitlines()[-1].startswith('{"kind": "end"')
    assert "by this machine's retention rules" in alice.cli("status", oldest)
    alice.cli("receipt", oldest, "--out", str(tmp_path / "oldest.receipt"))
    checked = alice.cli("verify-receipt", str(tmp_path / "oldest.receipt"), "--json", status=1).json
    assert (checked["verified"], checked["complete"]) == (True, False)
    alice.cli("receipt", middle, "--out", str(tmp_path / "middle.receipt"))
    assert alice.cli("verify-receipt", str(tmp_path / "middle.receipt"), "--json").json["complete"] is True

    # What changes while no daemon runs is seen at its start; a kill at once after that changes nothing of it.
    alice.crash()
    alice.configure(retention_mb=1)
    alice.start()
    alice.crash()
    alice.start()
    eventually(lambda: all(removed(alice, dispatch_id) for dispatch_id in ids), what="all of them thinned")
    eventually(lambda: set(alice.blobs()) & set().union(*names.values()) == names[waiting], what="their files removed")
    assert not removed(alice, waiting)

    # Bob keeps his, whatever she does; and what goes on goes on, and is too much as soon as it has ended.
    assert not any(removed(bob, dispatch_id) for dispatch_id in ids)
    call = bob.approval_of(waiting)
    bob.client.approve(waiting, call["request_id"])
    alice.state_of(waiting, "completed")
    eventually(lambda: removed(alice, waiting), what="it thinned too")
    eventually(lambda: not set(alice.blobs()) & set().union(*names.values()), what="the last file removed")


def fetched(person: Person, dispatch_id: str) -> None:
    def look() -> bool:
        return all(file["ready"] for file in person.client.dispatch(dispatch_id)["result"]["files"])

    eventually(look, what="the returned files")


def digests(person: Person, dispatch_id: str) -> set[str]:
    document = person.client.dispatch(dispatch_id)
    return {file["sha256"] for file in [*document["files"], *((document["result"] or {}).get("files") or [])]}


def removed(person: Person, dispatch_id: str) -> bool:
    return bool(person.client.dispatch(dispatch_id)["removed"])
