"""The service under a real user manager of systemd."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.user_manager import Session, started, until


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with started(tmp_path) as here:
        yield here


@pytest.mark.root
def test_installed_restarted_and_gone_without_a_trace(session: Session) -> None:
    done = session.dispatch("install", "--yes", "--linger")
    assert done["status"] == "installed" and done["linger"] is True
    until(lambda: session.serving() == session.main_pid() != 0, session)
    shown = session.dispatch("status")
    assert shown["installed"] and shown["enabled"] and shown["running"] and shown["lingers"]

    first = session.main_pid()
    os.kill(first, signal.SIGKILL)
    until(lambda: session.serving() == session.main_pid() not in (0, first), session)

    assert session.dispatch("install", "--yes")["linger"] is True  # again: replaced, and restarted
    until(lambda: session.serving() == session.main_pid() != 0, session)

    assert session.dispatch("uninstall", "--yes")["changed"] is True
    assert session.main_pid() == 0 and session.serving() == 0
    assert list((session.home / ".config").rglob("*")) == []
    assert session.noted.read_text().split() == ["enable-linger", "enable-linger", "disable-linger"]
    assert session.dispatch("uninstall")["changed"] is False
    assert session.dispatch("status", status=1)["installed"] is False


@pytest.mark.long
@pytest.mark.root
def test_lingering_that_was_refused_changes_nothing(session: Session) -> None:
    """And `--no-linger` turns off what an earlier install turned on."""
    loginctl = session.programs / "loginctl"
    stand_in = loginctl.read_text()
    loginctl.write_text("#!/bin/sh\necho Access denied >&2\nexit 1\n")
    error = session.dispatch("install", "--yes", "--linger", status=1)["error"]
    assert "Access denied" in error["message"] and "sudo loginctl enable-linger" in error["fix"]
    assert not (session.home / ".config").exists()
    loginctl.write_text(stand_in)
    session.dispatch("install", "--yes", "--linger")
    session.dispatch("install", "--yes", "--no-linger")
    assert session.noted.read_text().split() == ["enable-linger", "disable-linger"]
    session.dispatch("uninstall", "--yes")
    assert session.noted.read_text().split() == ["enable-linger", "disable-linger"]
