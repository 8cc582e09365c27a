"""What is keyword, string and comment: by a program that can do nothing but compute, and within bounds."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest

from sandbox.changes.colouring import UNKNOWN
from sandbox.changes.colours import MAX_COLOURED, Colours
from sandbox.changes.languages import _ENDINGS, language_of
from tests.conftest import HANG

PROGRAM = (sys.executable, "-m", "sandbox.changes.colouring")
EVERYTHING = (
    '# heading\n<?php\nclass A { function f() { return "x"; } } // 1\n```python\nx = 1\n```\n.. code:: python\n\n'
    "   x = 1\n<script>let a = 1;</script><style>a { b: c }</style>\n% c\nSELECT 1;\n"
)
"""Something of many languages, with others inside."""


def run(question: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(PROGRAM, input=question, capture_output=True, env={}, timeout=HANG, check=False)


def ask(name: str, new: str, old: str = "") -> subprocess.CompletedProcess[bytes]:
    return run(json.dumps({"name": name, "old": old, "new": new}).encode())


def answered(name: str, new: str, old: str = "") -> Colours:
    done = ask(name, new, old)
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout, type=Colours)


def lengths(text: str) -> list[int]:
    """Of each line, as a browser counts."""
    lines = text.split("\n")
    return [len(line.encode("utf-16-le")) // 2 for line in (lines if lines[-1] else lines[:-1])]


def test_each_line_is_covered_by_its_stretches() -> None:
    new = 'def f(x):\r\n    """Return\n    \U0001f600 it."""\n\n    return 1 + x  # \U0001f600\f\v\u2028 one line'
    found = answered("a.py", new, "import os\n")
    assert [sum(length for _, length in line) for line in found.new] == lengths(new)
    assert found.old == [[("keyword", 6), ("", 1), ("type", 2)]] and found.language == "Python"
    assert found.new[0][:3] == [("keyword", 3), ("", 1), ("function", 1)]
    assert found.new[1] == [("", 4), ("string", 9)] and found.new[2] == [("string", 13)] and found.new[3] == []
    assert found.new[4][1][0] == "keyword" and found.new[4][-1] == ("comment", 16)


@pytest.mark.parametrize(
    "language",
    [
        pytest.param(each, marks=() if each in ("markdown", "html", "php") else pytest.mark.long)
        for each in sorted(_ENDINGS)
    ],
)
def test_a_language_is_coloured_without_loading_anything_more(language: str) -> None:
    """Seen to fail for markdown with the blocks in it coloured by their own lexers."""
    found = answered(f"a.{_ENDINGS[language].split()[0]}", EVERYTHING)
    assert [sum(length for _, length in line) for line in found.new] == lengths(EVERYTHING)


@pytest.mark.parametrize(
    ("name", "text"), [("a.bin", "x"), ("name", "#!/usr/bin/env unheard-of\n"), ("a.py", "x" * (MAX_COLOURED + 1))]
)
def test_there_is_nothing_to_say(name: str, text: str) -> None:
    done = ask(name, text)
    assert (done.returncode, done.stdout) == (UNKNOWN, b"")


@pytest.mark.parametrize("question", [b"", b"{", b'{"name": "a.py"}', b'{"name": 1, "old": "", "new": ""}'])
def test_a_question_that_is_none_gets_no_answer(question: bytes) -> None:
    done = run(question)
    assert done.returncode not in (0, UNKNOWN) and done.stdout == b""


@pytest.mark.long
def test_a_lexer_that_does_not_end_is_ended() -> None:
    """Each here document that begins is looked for to the end of the text."""
    assert ask("a.rb", "<<A " * 60_000).returncode < 0


@pytest.mark.parametrize(
    ("name", "text", "language"),
    [
        ("app.PY", "", "python"),
        ("Makefile", "", "make"),
        ("a.b.tsx", "", "typescript"),
        ("run", "#!/bin/sh -e\n", "bash"),
        ("run", "#! /usr/bin/env -S python3 -I\n", "python"),
        ("run", "#!" + "x" * 1_000, None),
        ("run", "#!\n", None),
        ("run", "x = 1\n", None),
        ("py", "", None),
    ],
)
def test_a_language_is_known_by_name_or_first_line(name: str, text: str, language: str | None) -> None:
    assert language_of(name, text) == language


ATTEMPTS: dict[str, str] = {
    "open": "open('/etc/hostname')",
    "write": "open('/tmp/made', 'w')",
    "socket": "socket.socket()",
    "fork": "os.fork()",
    "exec": "os.execv('/bin/true', ['true'])",
    "signal": "os.kill(os.getppid(), 0)",
}


def test_a_lexer_can_open_nothing() -> None:
    program = (
        "import os\nfrom sandbox.changes import colouring\n"
        "class Evil:\n    name = 'evil'\n    def get_tokens_unprocessed(self, text):\n        yield 0, '', {}\n"
        "colouring._lexer = lambda language: Evil()\nos._exit(colouring.main())\n"
    )
    for read, status in (("text", 0), ("open('/etc/hostname').read()", 1)):
        done = subprocess.run(
            [sys.executable, "-c", program.format(read)],
            input=b'{"name": "a.py", "old": "", "new": "x"}',
            capture_output=True,
            timeout=HANG,
            check=False,
        )
        assert (done.returncode, bool(done.stdout)) == (status, not status)


def test_a_program_that_only_computes_can_do_nothing_else() -> None:
    attempts = "".join(f"attempt({name!r}, lambda: {what})\n" for name, what in ATTEMPTS.items())
    program = (
        "import os, socket, sys\nfrom sandbox.confinement.computing import only_compute\nrefused = []\n"
        "def attempt(name, work):\n    try: work()\n    except PermissionError:\n        refused.append(name)\n"
        f"only_compute()\n{attempts}"
        "b = bytearray(50_000_000)\nos.write(1, ' '.join(refused).encode())\nos._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG, check=False)
    assert (done.stdout.split(), done.returncode) == (list(ATTEMPTS), 0), done.stderr
