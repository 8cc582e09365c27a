"""Hosting with programs that are no nodes: one that ends again and again is given up for a while, whatever it says."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mcp_plugin.hosting import Hosting
from peer.machine import identity
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Internal
from tests.conftest import HANG


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateFolder:
    """The state folder of somebody who signed in."""
    made = StateFolder(tmp_path / "state")
    made.create()
    monkeypatch.setattr(identity, "exists", lambda _: True)
    return made


@asynccontextmanager
async def hosting(folder: StateFolder) -> AsyncIterator[Hosting]:
    begin = trio.Event()
    begin.set()
    made = Hosting(folder, begin)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_a_node_that_ends_retry_forever_is_not_started_for_ever(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with every end of a node taken for a regular one: 34 starts in two seconds."""
    program = folder.path / "program"
    program.write_text(f"#!/bin/sh\necho started >> {folder.path}/starts\necho '{{}}' >&0\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    starts = folder.path / "starts"
    async with hosting(folder) as made:
        with trio.fail_after(HANG):
            while not starts.exists() or len(starts.read_text().split()) < 2:
                await trio.sleep(0.01)
        # Nobody asks: it is left alone. Where somebody does, it is tried once more.
        await trio.sleep(1)
        assert len(starts.read_text().split()) == 2
        await made.ready()
        assert len(starts.read_text().split()) == 3


async def test_a_session_outlives_whatever_becomes_of_its_node_and_its_own_standard_error(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with a traceback for people who are gone."""

    class Broken:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "executable", "/nonexistent")
    monkeypatch.setattr(sys, "stderr", Broken())
    async with hosting(folder) as made:
        with pytest.raises(Internal, match="failed"), trio.fail_after(HANG):
            await made.ready()
