"""The door to a session's node, on its own: what a node cannot say or do reaches the session as a clear error."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from peer.machine.lock import AlreadyRunning, state_lock
from peer.machine.state_folder import StateFolder
from peer.programs import session_node
from peer.protocol.errors import DispatchError, Internal, Unauthorized, Unavailable


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    """A state folder of nobody yet."""
    made = StateFolder(tmp_path / "state")
    made.create()
    return made


async def refused(folder: StateFolder, kind: type[DispatchError]) -> DispatchError:
    """Have a node, which must not come up; return why."""
    with pytest.raises(kind) as error:
        async with session_node.hosted(folder):
            pass
    return error.value


def program(folder: StateFolder, text: str) -> str:
    """Make a program that is no node."""
    path = folder.path / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


async def test_what_stops_a_node_reaches_its_session(folder: StateFolder) -> None:
    error = await refused(folder, Unauthorized)
    assert "not signed in" in error.message and "dispatch login" in error.fix


async def test_who_has_the_lock_is_known_before_a_node_is_started(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with state_lock(folder):
        await refused(folder, AlreadyRunning)


async def test_who_gets_the_lock_meanwhile_is_said_by_the_node(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with the node's word taken for any conflict: the session would not attach to the other."""
    with state_lock(folder):
        monkeypatch.setattr(session_node, "state_lock", lambda _: pytest.MonkeyPatch.context())
        error = await refused(folder, AlreadyRunning)
    assert str(folder.path) in error.message


async def test_nothing_of_the_folder_a_session_works_in_is_imported(
    folder: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail without -P."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "peer.py").write_text("open('planted', 'w')")
    monkeypatch.chdir(project)
    await refused(folder, Unauthorized)
    assert not (project / "planted").exists()


async def test_a_node_that_ends_before_it_serves(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", program(folder, "exit 3"))
    error = await refused(folder, Internal)
    assert "daemon.log" in error.fix


async def test_a_node_that_never_serves_is_ended(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_node, "START_SECONDS", 0.3)
    monkeypatch.setattr(sys, "executable", program(folder, "sleep 300"))
    before = set(psutil.Process().children())
    await refused(folder, Unavailable)
    assert set(psutil.Process().children()) <= before
