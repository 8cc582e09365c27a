"""How the help of a command is laid out: at the width of the terminal, however narrow. What it says is click's."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

import click
from click.formatting import wrap_text

from cli import layout

WIDEST = 100
"""Columns of the widest help; longer lines are harder to read."""
INDENT = 4
"""Blanks before a summary below its name, and before what goes on of an example."""

_SHELL_WORDS = re.compile(r"(?:[<>|] )?(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+")
"""A word of a shell's command line, with the quoted parts of it in one piece, and with a `<`, `>` or `|` before it."""


class HelpFormatter(click.HelpFormatter):
    """Like click's, which never writes below 50 columns. Where it is narrow, a summary stands below its name."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        super().__init__(indent_increment, width or min(layout.width(sys.stdout), WIDEST) - 2)

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write how a command is called."""
        if self.width + 2 >= layout.NARROW:
            super().write_usage(prog, args, prefix)
        else:
            self._write_wrapped(f"{prefix or 'Usage: '}{prog} {args}", indent=self.current_indent, hanging=INDENT)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write names and what they mean."""
        if self.width + 2 >= layout.NARROW:
            super().write_dl(rows, col_max, col_spacing)
            return
        for name, meaning in rows:
            self._write_wrapped(name.rstrip(), indent=self.current_indent, hanging=INDENT)
            self._write_wrapped(meaning, indent=self.current_indent + INDENT)

    def write_example(self, example: str) -> None:
        """Write the examples of a command, one a line.

        One that is too long goes on in the next line as a shell reads it: after a backslash, and never inside quotes.
        """
        if not example:
            return
        with self.section("Example" if "\n" not in example else "Examples"):
            for each in example.splitlines():
                pieces = self._pieces(each)
                self.write(" " * self.current_indent + f" \\\n{' ' * INDENT}".join(pieces) + "\n")

    def _pieces(self, command: str) -> list[str]:
        """Return a command in pieces of whole words, each with room for what stands before and behind it."""
        if self.current_indent + layout.cells(command) <= self.width:
            return [command]
        pieces, room = [""], self.width - self.current_indent - len(" \\")
        for word in _SHELL_WORDS.findall(command):
            longer = f"{pieces[-1]} {word}".lstrip()
            if layout.cells(longer) <= room or not pieces[-1]:
                pieces[-1] = longer
            else:
                pieces.append(word)
                room = self.width - INDENT - len(" \\")
        return pieces

    def _write_wrapped(self, text: str, *, indent: int, hanging: int = 0) -> None:
        before = " " * indent
        if text:
            wrapped = wrap_text(text, self.width, before, before + " " * hanging)
            self.write(f"{wrapped}\n")


class HelpContext(click.Context):
    """The context of every command, so that its help is laid out by HelpFormatter."""

    formatter_class = HelpFormatter
