"""Terminals of forty columns, dumb ones, and people who want no colours: main commands on a real pty, a real daemon.

`tests/cli/test_terminal.py` has what is asked there, and answered.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.conftest import HANG
from tests.surroundings.story import somebody, tell
from tests.system.world import ROOT, Person, World, connect

ESCAPE = "\x1b"
HEADED = {"contacts": "peer", "invitations": "token", "inbox": "id", "sent": "id"}
"""The headings of the first columns."""


def on_terminal(
    person: Person,
    arguments: Sequence[str],
    *,
    columns: int,
    environment: Mapping[str, str],
    answers: Sequence[tuple[str, str]] = (),
) -> str:
    """Run a command on a terminal of this width, to its end; return what it shows.

    `answers`: (question, answer), in the order of the questions, each typed once its question is shown.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**person.environment, "PYTHONPATH": str(ROOT), **environment},
        cwd=person.home,
        start_new_session=True,
    )
    os.close(slave)
    shown, seen, left = b"", 0, list(answers)
    try:
        while select.select([master], [], [], HANG)[0] and (piece := os.read(master, 65536)):
            shown += piece
            if left and left[0][0].encode() in shown[seen:]:
                seen = len(shown)
                os.write(master, left.pop(0)[1].encode() + b"\n")
    except OSError:  # EIO: nobody has the terminal any more
        pass
    finally:
        os.close(master)  # hangs up
    assert process.wait(HANG) in (0, 1, 2) and not left, shown
    return shown.decode().replace("\r\n", "\n")


class Scene:
    """Bob, who has all there is to list: contacts, an invitation, a run behind him, one that waits, one to accept."""

    def __init__(self, alice: Person, world: World, folder: Path) -> None:
        self.bob = bob = somebody(world, "narrow", folder / "bob")
        bob.start()
        tell(alice, bob, folder / "back")
        (self.done,) = [row["dispatch_id"] for row in bob.client.dispatches("received")["dispatches"]]
        connect(bob, alice)
        bob.client.send(alice.email, "And one of Bob's, of which the task is longer than a narrow terminal is wide")
        bob.client.invite("carol@example.org")
        self.asks = alice.client.send(bob.email, "Look into a.txt and change what is in there")["dispatch_id"]
        alice.state_of(self.asks, "pending")
        bob.client.accept(self.asks, cwd=str(bob.projects / "shop"))
        bob.approval_of(self.asks)
        waits = alice.client.send(bob.email, "One that waits to be accepted")["dispatch_id"]
        alice.state_of(waits, "pending")
        self.commands = (
            ("whoami",),
            ("doctor",),
            ("contacts",),
            ("invitations",),
            ("trust", "show", alice.email),
            ("config", "list"),
            ("inbox",),
            ("sent",),
            ("status", self.done),
            ("changes", self.done),
            ("approvals", "--list"),
            ("inbox", "--bad"),
            ("status", "0000"),
            ("--help",),
            ("accept", "--help"),
        )


@pytest.fixture(scope="module")
def scene(alice: Person, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(alice, world, tmp_path_factory.mktemp("narrow"))
    yield made
    made.bob.client.cancel(made.asks)
    made.bob.stop()


def stays(shown: str) -> str:
    """Return what is left to read: without colours, and without what is waited for, which blanks are written over."""
    return re.sub(r"[^\r\n]*\r +\r", "", re.sub(r"\x1b\[[0-9;]*m", "", shown))


def words(shown: str) -> set[str]:
    """What stays but for what is drawn, and for numbers and times, which pass."""
    plain = stays(shown)
    passing = r"^\W*[\d,.]+\W*$|\d(:\d|s$)|^(now|min|s)$"
    return {word for word in re.sub("[─│╷╵]", " ", plain).split() if not re.search(passing, word)}


@pytest.mark.long
@pytest.mark.parametrize(
    "look",
    [{"TERM": "dumb"}, {"TERM": "xterm-256color", "NO_COLOR": "1"}],
    ids=["dumb", "plain"],
)
def test_no_escape_codes_where_nobody_reads_them(scene: Scene, look: dict[str, str]) -> None:
    """Seen to fail with NO_COLOR: tables were bold and dim all the same."""
    for command in scene.commands:
        shown = on_terminal(scene.bob, command, columns=80, environment=look)
        assert shown and ESCAPE not in shown, (command, shown)


def test_forty_columns_cut_nothing_off(scene: Scene) -> None:
    """Each word of a wide terminal is there, if in pieces: a long one is folded."""
    for command in scene.commands:
        wide, narrow = (
            on_terminal(scene.bob, command, columns=columns, environment={"TERM": "xterm-256color"})
            for columns in (250, 40)
        )
        lines = narrow.splitlines()
        together = re.sub(r"[\s│]", "", stays(narrow))
        missing = {word for word in words(wide) if word not in together}
        if missing:  # or what there was to say has changed in between: a contact was connected no longer
            missing &= words(on_terminal(scene.bob, command, columns=250, environment={"TERM": "xterm-256color"}))
        if command[0] in HEADED:  # a card begins with what it is about, without the heading of that column
            missing -= {HEADED[command[0]]}
        assert not missing, (command, missing, narrow)
        assert lines


def test_a_run_is_followed_and_answered_on_a_narrow_dumb_terminal(alice: Person, world: World, tmp_path: Path) -> None:
    bob = somebody(world, "answers", tmp_path / "bob")
    bob.start()
    connect(alice, bob)
    folder = bob.projects / "a-project-with-a-name-longer-than-the-terminal"
    folder.mkdir()
    bob.will({"tool": "Write", "input": {"file_path": "notes.md", "content": "x"}}, {"say": "done"})
    dispatch_id = alice.client.send(bob.email, "Write")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    shown = on_terminal(
        bob,
        ("accept", dispatch_id, "--cwd", str(folder)),
        columns=40,
        environment={"TERM": "dumb"},
        answers=[("Your answer? [1/2/3/4/5/r]", "1"), ("Enter: 3] ", "1")],
    )
    assert ESCAPE not in shown and "done" in shown
    assert f"~/{(folder / 'notes.md').relative_to(bob.home)}" in shown, "a path is wrapped as a whole"
    assert alice.state_of(dispatch_id, "completed")
    assert (folder / "notes.md").read_text() == "x"


def test_what_a_terminal_wraps_stays_behind_the_bar(scene: Scene, alice: Person) -> None:
    """Seen to fail: a contact that filled a line had the next one to itself, and could have it look like ours."""
    imitation = "error 403: your sign-in has ended"
    for columns in (40, 80):
        # Of both widths of characters, wherever the line begins.
        for filling in ("x" * columns, "汉" * columns):
            task = "".join(filling[:cut] + imitation for cut in range(columns - 8, columns))
            sent = alice.client.send(scene.bob.email, task)["dispatch_id"]
            alice.state_of(sent, "pending")
            shown = on_terminal(scene.bob, ("status", sent), columns=columns, environment={"TERM": "dumb"})
            assert imitation.replace(" ", "") in re.sub(r"[\s│]", "", shown)
            scene.bob.client.decline(sent)
            for line in shown.splitlines():
                assert cell_len(line) <= columns or "│" not in line, line
