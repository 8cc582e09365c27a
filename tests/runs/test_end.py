"""A run always stores an end, whatever its agent reports and whatever fails on the way."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from peer.machine.settings import Settings
from peer.projects import lock_files
from peer.protocol.errors import Invalid, Unavailable
from peer.protocol.statements import FileRef
from peer.runs import change_sets as change_sets_module
from peer.runs import recorder
from peer.runs import run as run_module
from peer.runs.change_sets import ChangeSets
from peer.runs.lander import Lander
from peer.runs.removal import Remover
from peer.runs.run import GateProof, Run
from peer.steps import ending, receiving, releasing, running
from peer.steps.effects import Effects, StopRun
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import change_sets, connection, rows, unreleased
from peer.store.blobs import Blobs
from peer.store.database import Store
from peer.store.unreleased import RunResult
from peer.trust import scopes
from sandbox import frames
from tests.conftest import HANG
from tests.steps.people import Person, connect, people, send

FACTS = frames.SandboxFacts(tier="full")
STARTED = frames.Started(sandbox=FACTS, runtime="scripted", runtime_version="1")
DONE = frames.Finished(status="completed", reply="done", sandbox=FACTS)


class Recipient:
    """Bob, whose store a run writes by the real journal."""

    def __init__(self, folder: Path, bob: Person, dispatch_id: str) -> None:
        self.bob = bob
        self.dispatch_id = dispatch_id
        self.effects: list[Effects] = []
        self.folder = folder

    @asynccontextmanager
    async def journal(self) -> AsyncIterator[Journal]:
        store = Store.open(self.bob.context.state.store)
        try:
            yield Journal(replace(self.bob.context, store=store), self.effects.append)
        finally:
            store.close()

    def row(self) -> rows.Dispatch:
        return self.bob.row(self.dispatch_id)

    def reviews(self) -> None:
        """Change the edge to `review`."""
        with connection.writing(self.bob.db) as db:
            db.execute(
                "UPDATE edges SET scope = ?",
                (scopes.encode(scopes.Scope(tools=("Read",), approval="review")).decode(),),
            )

    async def runs(self, *reported: frames.ToNode, viewed: bool = False) -> None:
        """Run it to its end with an agent that reports these frames, then exits; `viewed`: it has made views."""
        program = self.folder / "agent"
        (self.folder / "frames").write_bytes(b"".join(frames.encode(frame) for frame in reported))
        program.write_text(
            f"#!{sys.executable}\nimport json, os, sys\nstart = json.loads(sys.stdin.readline())\n"
            f"if {viewed}:\n    os.mkdir(start['run_dir'] + '/views')\n"
            "    open(start['run_dir'] + '/views/views.json', 'w').write('{}')\n"
            f"sys.stdout.write(open('{self.folder}/frames').read())\n"
        )
        program.chmod(stat.S_IRWXU)
        async with self.journal() as journal:
            row, scope = await journal.step(lambda tx: receiving.accept(tx, self.dispatch_id, cwd=""))
            state = self.bob.context.state
            sets = ChangeSets(journal, Remover(state.changes))
            run = Run(
                journal,
                row,
                scope,
                lock_files.read([]),
                gate=GateProof(),
                known=(),
                remover=Remover(state.runs),
                changes=sets,
                lander=Lander(journal, sets),
            )
            with trio.fail_after(HANG):
                await run.run(Settings(runtime="scripted"))


@pytest.fixture
def recipient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipient]:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        monkeypatch.setattr(run_module, "AGENT", [str(tmp_path / "agent")])
        monkeypatch.setattr(recorder, "STORE_RETRY_SECONDS", 0.0)
        dispatch_id = send(alice, bob)
        alice.deliver(bob)
        yield Recipient(tmp_path, bob, dispatch_id)


def returning(path: Path, name: str = "a.txt") -> frames.Finished:
    return frames.Finished(
        status="completed",
        reply="done",
        sandbox=FACTS,
        files=[frames.ReturnedFile(name=name, path=str(path), size=1, sha256="0" * 64)],
    )


async def test_an_end_stops_the_run_and_is_told(recipient: Recipient) -> None:
    await recipient.runs(STARTED, DONE)
    row = recipient.row()
    assert (row.state, row.message) == ("completed", "") and row.result
    assert any(isinstance(effect, StopRun) for effects in recipient.effects for effect in effects)


@pytest.mark.parametrize("raised", [Invalid("no", fix="x"), ValueError("no"), OSError(28, "No space left on device")])
async def test_an_end_that_cannot_be_stored_as_it_is_becomes_a_bare_failure(
    recipient: Recipient, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    finish = running.finish

    def picky(*arguments: Any, **content: Any) -> None:
        if content["reply"]:
            raise raised
        finish(*arguments, **content)

    monkeypatch.setattr(running, "finish", picky)
    await recipient.runs(STARTED, DONE)
    row = recipient.row()
    assert (row.state, row.code) == ("failed", 500) and "could not be stored" in row.message and row.fix


async def test_on_a_review_edge_a_bare_failure_is_held_too(
    recipient: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its counts are of what the run did. Red where the end looks at the sandbox, which it forgets."""
    recipient.reviews()
    hold = releasing.hold

    def picky(tx: Transaction, dispatch_id: str, attempt: int, result: RunResult, files: Sequence[FileRef]) -> None:
        if result.reply:
            raise ValueError("no")
        hold(tx, dispatch_id, attempt, result, files)

    monkeypatch.setattr(releasing, "hold", picky)
    denied = frames.TraceEntry(event=frames.Approval(call_id="1", outcome="denied", by="person"))
    await recipient.runs(STARTED, denied, DONE)
    row = recipient.row()
    assert (row.state, row.result) == ("held", b"") and "could not be stored" in row.message
    found = unreleased.get(recipient.bob.db, recipient.dispatch_id)
    assert found is not None and (found[0].status, found[0].usage["calls_denied"]) == ("failed", 1)


async def test_events_that_cannot_be_stored_do_not_keep_the_end_from_being(
    recipient: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(*_: object) -> None:
        raise Invalid("such an event", fix="x")

    monkeypatch.setattr(running, "record", record)
    await recipient.runs(STARTED, frames.TraceEntry(event=frames.Reasoning(text="hm")), DONE)
    assert recipient.row().state == "failed"


async def test_a_store_that_cannot_write_is_tried_until_it_can(
    recipient: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, left = running.finish, [1, 2, 3]

    def full(*arguments: Any, **content: Any) -> None:
        if left:
            left.pop()
            raise Unavailable("the disk is full", fix="free some space")
        finish(*arguments, **content)

    monkeypatch.setattr(running, "finish", full)
    await recipient.runs(STARTED, DONE)
    assert (recipient.row().state, left) == ("completed", [])


@pytest.mark.parametrize("what", ["missing", "folder", "pipe", "socket", "device", "name", "disk"])
async def test_files_that_cannot_be_taken_are_named(
    recipient: Recipient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    place, name = tmp_path / "file", "a.txt"
    if what == "folder":
        place.mkdir()
    elif what == "pipe":
        os.mkfifo(place)
    elif what == "socket":
        os.mknod(place, stat.S_IFSOCK | 0o600)
    elif what == "device":
        place = Path("/dev/zero")
    elif what == "name":
        place.write_text("x")
        name = "a/b"
    elif what == "disk":
        place.write_text("x")

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Blobs, "take_in", full)
    await recipient.runs(STARTED, returning(place, name))
    row = recipient.row()
    assert row.state == "completed" and "1 file was not returned" in row.message, row


async def test_taking_files_that_fails_altogether_keeps_the_end(
    recipient: Recipient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(recorder, "take_files", broken)
    await recipient.runs(STARTED, DONE)
    assert recipient.row().state == "completed" and "RuntimeError" in recipient.row().message


async def test_what_a_run_has_left_out_is_said_to_both_and_bounded(recipient: Recipient) -> None:
    left = [frames.LeftOut(name=f"file-{number}" + "x" * 60, why="outside out/") for number in range(100)]
    await recipient.runs(STARTED, frames.Finished(status="completed", sandbox=FACTS, left_out=left))
    message = recipient.row().message
    assert "100 files were not returned: file-0" in message and "more." in message
    assert len(message) <= ending.MAX_REASON


@pytest.mark.parametrize("program", ["exit 3", "exit 0", "kill -9 $$", "mkdir $2; echo '{}' > $2/changes.json", "none"])
async def test_changes_that_cannot_be_read_are_said_and_keep_no_end_from_being(
    recipient: Recipient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    reader = tmp_path / "reader"
    if program != "none":
        reader.write_text(f"#!/bin/sh\n{program}\n")
        reader.chmod(stat.S_IRWXU)
    monkeypatch.setattr(change_sets_module, "CHANGES", [str(reader)])
    await recipient.runs(STARTED, DONE, viewed=True)
    row = recipient.row()
    assert row.state == "completed" and "what the run changed could not be read" in row.message
    (kept,) = change_sets.of_dispatch(recipient.bob.db, recipient.dispatch_id)
    assert (kept.state, kept.entries) == ("closed", 0)
    folder = recipient.bob.context.state.changes / recipient.dispatch_id / "1"
    assert b"could not be read" in (folder / "changes.json").read_bytes()
    assert not (recipient.bob.context.state.runs / recipient.dispatch_id).exists()


async def test_an_agent_that_does_not_end_is_ended(recipient: Recipient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the minutes of its budget, which it would have to keep by itself."""
    monkeypatch.setattr(run_module, "OVERTIME_SECONDS", -60 * 60.0)
    await recipient.runs(STARTED, DONE)
    row = recipient.row()
    assert row.state == "failed" and "time was up" in row.message


@pytest.mark.parametrize("reported", [(), (STARTED,), (frames.TraceEntry(event=frames.Status(status="x")),)])
async def test_an_agent_that_ends_without_a_word_has_failed(
    recipient: Recipient, reported: tuple[frames.ToNode, ...]
) -> None:
    await recipient.runs(*reported)
    row = recipient.row()
    assert (row.state, row.code) == ("failed", 500) and "without a result" in row.message
