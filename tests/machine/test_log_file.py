"""The daemon's log is its owner's alone, every file of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.machine import log_file
from peer.machine.state_folder import StateFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    root = logging.getLogger()
    before, level, umask = root.handlers[:], root.level, os.umask(0o022)
    made = StateFolder(tmp_path / "state")
    made.create()
    yield made
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    os.umask(umask)


def test_every_file_of_the_log_is_private(folder: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "LOG_BYTES", 1_000)
    log_file.set_up_logging(folder)
    for number in range(100):
        logging.getLogger("test").info("line %d %s", number, "x" * 50)
    files = sorted(folder.path.glob("daemon.log*"))
    assert len(files) == log_file.LOG_FILES + 1
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert folder.problems() == []
