"""How the desktop of each system is asked to show words: what others chose is never taken for anything but words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from trio.testing import MockClock

from peer.machine.settings import Settings
from peer.node import notifications
from peer.node.away import AwayNotifier
from peer.node.changes import KEPT, ChangeLog, ChangeSignal, OpenPages
from peer.node.notifications import command

HOSTILE = [
    '-e do shell script "touch /tmp/x"',
    '" & (do shell script "id") & "',
    "--help",
    "<b>bold</b>",
    "$(id) `id`",
]
PLAYED = """#!{python}
import json, sys
print(json.dumps(sys.argv[1:]))
"""


@pytest.fixture(params=["linux", "freebsd14", "darwin"])
def system(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A system with its program, which says what it was given; in place of the desktop, which no test has."""
    for name in ("notify-send", "osascript"):
        (tmp_path / name).write_text(PLAYED.format(python=sys.executable))
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    return str(request.param)


@pytest.mark.parametrize("said", HOSTILE)
def test_words_are_the_last_argument_behind_what_ends_the_options(system: str, said: str) -> None:
    """Seen to fail with the words within the script, as `display notification "…"`."""
    words = command(said, system)
    assert words is not None
    *before, last = words
    assert last == said and said not in " ".join(before)
    assert before[-1] == ("dispatch" if system == "darwin" else "--")
    assert Path(before[0]).name == ("osascript" if system == "darwin" else "notify-send")
    assert subprocess.run(words, capture_output=True, check=True).stdout


def test_nothing_is_tried_where_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert [command("x", system) for system in ("linux", "darwin", "win32")] == [None, None, None]


async def test_what_is_news_follows_a_clock_that_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail with the time of the start: nothing was shown until the clock was there again."""
    asked: list[int] = []

    def none_for(*_: object, since: int) -> tuple[notifications.Notification, ...]:
        asked.append(since)
        return ()

    monkeypatch.setattr(notifications, "notifications_for", none_for)

    async def read(_query: object) -> tuple[object, list[object], list[object]]:
        return object(), [], []

    times = [1000]
    context: Any = SimpleNamespace(clock=lambda: times[-1], store=SimpleNamespace(read=read))
    notifier = notifications.Notifier(
        context=context,
        changes=ChangeLog("life"),
        signal=ChangeSignal(),
        pages=OpenPages(),
        away=AwayNotifier(Settings),
    )
    for now in (1001, 10, 11):
        times.append(now)
        await notifier._look_at("any", quiet=False)
    assert asked == [1000, 10, 10]


async def test_so_many_are_shown_a_minute_and_so_many_are_remembered(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    noticed: list[notifications.Notification] = []

    async def show(_self: object, summary: str) -> None:
        shown.append(summary)

    async def read(_query: object) -> tuple[object, list[object], list[object]]:
        return object(), [], []

    monkeypatch.setattr(notifications.Notifier, "_show", show)
    monkeypatch.setattr(notifications, "REMEMBERED", 50)
    monkeypatch.setattr(notifications, "notifications_for", lambda *_, since: noticed)
    context: Any = SimpleNamespace(clock=lambda: 0, store=SimpleNamespace(read=read))
    log, signal = ChangeLog("life"), ChangeSignal()
    notifier = notifications.Notifier(
        context=context, changes=log, signal=signal, pages=OpenPages(), away=AwayNotifier(Settings)
    )
    for minute in range(1, 4):
        for number in range(100):
            noticed[:] = [notifications.Notification("arrived", "a@example.org", f"{minute} {number}")]
            await notifier._look_at("any", quiet=False)
        assert len(shown) == minute * notifications.MOST_A_MINUTE
        assert len(notifier._seen) == 50
        mock_clock.jump(60)


def test_a_log_of_changes_keeps_the_newest() -> None:
    log = ChangeLog("life")
    for number in range(KEPT + 100):
        log.note("dispatch", str(number))
    assert log.since(log.last - KEPT - 1) is None
    newest = log.since(log.last - KEPT)
    assert newest is not None and len(newest) == KEPT
