"""Asking a person on a terminal: a numbered choice, a line of text, yes or no. What to ask is the callers' business."""

from __future__ import annotations

import os
import select
import sys
import termios
from collections.abc import Sequence

from cli.output import Output


class NoAnswer(Exception):
    """The time ran out, or the person closed the input (Ctrl-D)."""


def choose(out: Output, question: str, keys: Sequence[str], *, seconds: float | None = None) -> str:
    """Ask for one of `keys`, whose meaning is on the screen; return it. Raises NoAnswer after `seconds`.

    What was typed before the question was there is thrown away: it cannot have been meant for it.
    """
    forget_typed()
    while True:
        answer = line(f"{question} [{'/'.join(keys)}] ", seconds=seconds).strip().lower()
        if answer in keys:
            return answer
        out.line(f"please type one of {', '.join(keys)}")


def confirm(question: str) -> bool:
    """Ask for yes or no; only a whole `yes` or `y` is one. No answer is no."""
    forget_typed()
    try:
        return line(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except NoAnswer:
        return False


def line(prompt: str, *, seconds: float | None = None) -> str:
    """Ask for a line of text. Raises NoAnswer."""
    sys.stdout.write(prompt)
    sys.stdout.flush()
    ready, _, _ = select.select([0], [], [], seconds)
    answer = os.read(0, 4096) if ready else b""
    if not answer:
        sys.stdout.write("\n")
        raise NoAnswer
    return answer.decode("utf-8", "replace").rstrip("\r\n")


def forget_typed() -> None:
    """Throw away what was typed and not read yet."""
    if os.isatty(0):
        termios.tcflush(0, termios.TCIFLUSH)
