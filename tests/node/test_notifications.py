"""How the desktop of each system is asked to show words: what others chose is never taken for anything but words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
