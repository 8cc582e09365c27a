"""Colours come from a program that may do what it likes: no answer of it, and no silence, is more than no colours."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from peer.node import colouring
from peer.node.colouring import Colouring
from sandbox.changes.colours import MAX_ANSWER, MAX_COLOURED, Asked

ASKED = Asked(name="a.py", old="", new="import os\n")


def instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(colouring, "COLOURING", (sys.executable, "-c", f"import os, sys\n{program}"))


async def test_a_text_has_colours() -> None:
    found = await Colouring().colours(ASKED)
    assert found is not None and found.new == [[("keyword", 6), ("", 1), ("type", 2)]]


@pytest.mark.parametrize(
    "program",
    [
        "sys.exit(1)",
        'print(\'{"language": "", "old": [], "new": []}\'); sys.exit(1)',
        "print('{')",
        "os.write(1, b'\\xff')",
        'print(\'{"language": "", "old": [], "new": [[["evil", 1]]]}\')',
        "os.close(0)",
        "os.kill(os.getpid(), 9)",
        f'print(\'{{"language": "", "old": [], "new": []}}\' + \' \' * {MAX_ANSWER})',
    ],
)
async def test_no_answer_is_no_colours(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    instead(monkeypatch, program)
    assert await Colouring().colours(ASKED) is None


async def test_a_program_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    instead(monkeypatch, f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\nwhile True: pass")
    monkeypatch.setattr(colouring, "SECONDS", 1.0)
    assert await Colouring().colours(ASKED) is None
    if (tmp_path / "pid").exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_a_program_that_cannot_be_started_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colouring, "COLOURING", ("/nonexistent",))
    assert await Colouring().colours(ASKED) is None


async def test_what_is_too_long_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    instead(monkeypatch, f"open({str(tmp_path / 'asked')!r}, 'w')")
    assert await Colouring().colours(Asked(name="a.py", old="", new="x" * (MAX_COLOURED + 1))) is None
    assert not (tmp_path / "asked").exists()


async def test_few_wait_for_their_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "while True: pass")
    made = Colouring()
    async with trio.open_nursery() as nursery:
        for _ in range(colouring.MAX_WAITING + 1):
            nursery.start_soon(made.colours, ASKED)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await made.colours(ASKED) is None
        assert made._one.statistics().tasks_waiting == colouring.MAX_WAITING
        nursery.cancel_scope.cancel()
