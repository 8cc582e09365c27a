"""Prompts on a terminal: a choice by keys, a line of text, yes or no. The questions are the callers'."""

from __future__ import annotations

import os
import select
import sys
import termios
from collections.abc import Callable, Sequence

from cli import layout
from cli.output import Output


class NoAnswer(Exception):
    """The time ran out, or the person closed the input (Ctrl-D)."""


def choose(
    out: Output, question: str, keys: Sequence[str], *, seconds: float | None = None, default: str | None = None
) -> str:
    """Ask for one of `keys`, whose meaning the caller has shown; return it, or for an empty line `default`.

    Raises NoAnswer after `seconds`. Input that was typed before the prompt is discarded, since it was not typed in
    answer to it.
    """
    discard_typed_ahead()
    enter = f", Enter: {default}" if default else ""
    while True:
        answer = line(f"{question} [{'/'.join(keys)}{enter}] ", seconds=seconds).strip().lower() or default
        if answer is not None and answer in keys:
            return answer
        out.line(f"please type one of {', '.join(keys)}")


def decide(out: Output, question: str, options: dict[str, str], *, look: Callable[[], None]) -> str:
    """Ask for one of `options`, key → words, of which 2 shows everything and asks again, and 3 leaves it as it is.

    No answer is 3.
    """
    left = dict(options)
    while True:
        for key, words in left.items():
            out.option(key, words)
        try:
            answer = choose(out, question, list(left), default="3")
        except NoAnswer:
            answer = "3"
        if answer != "2":
            return answer
        look()
        del left["2"]


def confirm(question: str) -> bool:
    """Ask for yes or no. Only `y` and `yes` mean yes; no answer means no."""
    discard_typed_ahead()
    try:
        return line(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except NoAnswer:
        return False


def line(prompt: str, *, seconds: float | None = None) -> str:
    """Ask for a line of text. Raises NoAnswer."""
    words, space = prompt.rstrip(), prompt[len(prompt.rstrip()) :]
    room = layout.width(sys.stdout) - len(space) if sys.stdout.isatty() else sys.maxsize
    indent = len(words) - len(words.lstrip())
    sys.stdout.write("\n".join(layout.wrap(words, room, hanging=indent)) + space)
    sys.stdout.flush()
    ready, _, _ = select.select([0], [], [], seconds)
    answer = os.read(0, 4096) if ready else b""
    if not answer:
        sys.stdout.write("\n")
        raise NoAnswer
    return answer.decode("utf-8", "replace").rstrip("\r\n")


def discard_typed_ahead() -> None:
    """Discard terminal input that was not read yet."""
    if os.isatty(0):
        termios.tcflush(0, termios.TCIFLUSH)
