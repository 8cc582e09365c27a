"""Output for people or as JSON: the only module that writes to the terminal. What is shown is decided by the commands.

Much of the text comes from other people, and terminals execute control sequences. So commands do not write themselves:
every text passes through here and is neutralised (peer.dispatches.text). JSON is pure ASCII for the same reason. Tables
are drawn by rich on a terminal only, since importing it takes longer than the rest of a command; in a pipe they are
plain columns.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from peer.dispatches import text
from peer.protocol.errors import DispatchError

if TYPE_CHECKING:
    from rich.table import Table

BAR = "│ "
"""Before each line of a text that somebody else wrote."""

CELL = 120
"""Characters of a cell in a table."""

LEAST = 24
"""Columns of a terminal that the column of longer text needs beside the others."""

STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36}
"""Select Graphic Rendition (ECMA-48, 8.3.117)."""

COLOURS = {
    "queued": "blue",
    "pending": "yellow",
    "accepted": "cyan",
    "running": "cyan",
    "held": "yellow",
    "completed": "green",
    "failed": "red",
    "rejected": "red",
    "declined": "magenta",
    "cancelled": "magenta",
    "expired": "magenta",
    "active": "green",
    "paused": "yellow",
    "revoked": "red",
    "yes": "green",
    "ok": "green",
    "broken": "red",
}


class Output:
    """The output of one invocation. With `json`, stdout has documents only and notes for people are left out."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json

    def document(self, document: object, *, one_line: bool = False) -> None:
        """Write one JSON document to stdout."""
        raw = json.dumps(document, ensure_ascii=True, indent=None if one_line else 2)
        sys.stdout.write(raw + "\n")
        sys.stdout.flush()

    def line(self, content: str = "", *, style: str | None = None, indent: int = 0) -> None:
        """Write one line to stdout; `style` is a colour, `bold` or `dim`, used on a terminal only."""
        self._write(" " * indent + text.line(content), style, err=False)

    def block(self, content: str, *, indent: int = 2, style: str | None = None) -> None:
        """Write a text of this program of several lines to stdout, each indented."""
        for part in text.block(content).split("\n"):
            self._write(" " * indent + part, style, err=False)

    def quote(self, content: str, *, indent: int = 2, style: str | None = None) -> None:
        """Write a text of somebody else to stdout, each line behind a bar, so that none looks like ours.

        On a terminal what is wider is folded here, or the terminal would begin a line of its own with the rest.
        """
        before = " " * indent + BAR
        for part in text.block(content).split("\n"):
            for piece in _folded(part, len(before)) if sys.stdout.isatty() else [part]:
                self._write(before + piece, style, err=False)

    def pairs(self, pairs: Mapping[str, str | Sequence[str]]) -> None:
        """Write `name  value` lines, aligned; of several values each on a line, below the name."""
        width = max((len(name) for name in pairs), default=0)
        for name, value in pairs.items():
            first, *rest = map(text.line, [value] if isinstance(value, str) else value)
            label = _styled(name.ljust(width), "dim", sys.stdout)
            _echo(f"{label}  {_styled(first, COLOURS.get(first), sys.stdout)}".rstrip(), sys.stdout)
            for part in rest:
                _echo(" " * (width + 2) + part, sys.stdout)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, wraps: str, empty: str) -> None:
        """Write rows under headings, or the line `empty` when there are none. `wraps`: the column of longer text."""
        if not rows:
            self.line(empty, style="dim")
        elif sys.stdout.isatty():
            _rich_table(columns, rows, columns.index(wraps))
        else:
            shown = [list(columns), *([text.line(cell, limit=CELL) for cell in row] for row in rows)]
            widths = [max(len(row[i]) for row in shown) for i in range(len(columns))]
            for row in shown:
                line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                _echo(line.rstrip(), sys.stdout)

    def note(self, content: str) -> None:
        """Write a remark for a person to stderr; with --json it is left out."""
        if not self.json:
            self._write(text.line(content), "dim", err=True)

    def say(self, content: str) -> None:
        """Write to stderr what a person must see also with --json, such as the address of a sign-in."""
        self._write(text.line(content), None, err=True)

    def warn(self, content: str) -> None:
        """Write a warning to stderr, with --json too."""
        self._write("warning: " + text.line(content), "yellow", err=True)

    def error(self, error: DispatchError) -> None:
        """Write an error and its fix to stderr, and with --json the error's document to stdout too."""
        # First where a person reads it: stdout may be closed or full.
        self._write(f"error {error.code}: {text.line(error.message)}", "red", err=True)
        if error.fix:
            self._write("fix: " + text.line(error.fix), None, err=True)
        if self.json:
            self.document({"error": error.to_json()})

    def interrupted(self) -> None:
        """Write that Ctrl-C ended the command, with --json as an error's document."""
        if self.json:
            self.document({"error": {"code": 499, "message": "interrupted", "fix": ""}})
        self._write("interrupted", None, err=True)

    def _write(self, safe: str, style: str | None, *, err: bool) -> None:
        stream = sys.stderr if err else sys.stdout
        _echo(_styled(safe, style, stream), stream)


def colour(stream: TextIO) -> bool:
    """Whether to colour what goes to this stream: a terminal, not `dumb`, and $NO_COLOR is not set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def interactive() -> bool:
    """Whether standard input and output are terminals, so that a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def local_time(stamp: object) -> str:
    """Return an RFC 3339 time as local time with its zone: `2026-11-22 13:00:05 CET`. Other text stays."""
    if not isinstance(stamp, str) or not stamp:
        return ""
    from datetime import datetime

    try:
        return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    except (ValueError, OverflowError):
        return stamp


def string(value: object) -> str:
    """Return a JSON value as text for people: yes and no, lists with commas, empty values as a dash."""
    if value is None or value in ("", [], (), {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(string, value))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _styled(safe: str, style: str | None, stream: TextIO) -> str:
    return f"\x1b[{STYLES[style]}m{safe}\x1b[0m" if style and colour(stream) else safe


def _echo(safe: str, stream: TextIO) -> None:
    stream.write(safe + "\n")
    stream.flush()


def _folded(part: str, before: int) -> list[str]:
    """Return a line in pieces that fit on the terminal behind so many columns."""
    from shutil import get_terminal_size

    room = max(get_terminal_size().columns - before, 1)
    if part.isascii() and len(part) <= room:
        return [part]
    from rich.cells import chop_cells  # 5 ms

    return chop_cells(part, room) or [part]


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]], wide: int) -> None:
    """Draw a table of which only column `wide` wraps.

    Where that one would get narrower than LEAST, it stands below the others of its row; where these do not fit either,
    each row is a block of `name  value` lines.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    # Without a colour system there are no bold and dim either, which `no_color` would leave.
    console = Console(color_system="auto" if colour(sys.stdout) else None, highlight=False)
    shown = [[text.line(cell, limit=CELL) for cell in row] for row in rows]
    widths = [max(cell_len(row[i]) for row in (columns, *shown)) for i in range(len(columns))]
    narrow = [i for i in range(len(columns)) if i != wide]
    room = console.width - sum(widths[i] for i in narrow)
    if room - 3 * len(columns) >= min(LEAST, widths[wide]):
        console.print(_boxed(columns, shown, wide))
    elif room >= 2 * len(narrow):
        for row in (columns, *shown):
            line = Text()
            for i in narrow:
                line.append(row[i], "bold" if row is columns else COLOURS.get(row[i], ""))
                line.append(" " * (widths[i] - cell_len(row[i]) + 2))
            line.rstrip()
            console.print(line, soft_wrap=True)
            if row is not columns:
                console.print(Padding(Text(row[wide], COLOURS.get(row[wide], ""), overflow="fold"), (0, 0, 0, 2)))
    else:
        label = max(map(cell_len, columns))
        for number, row in enumerate(shown):
            if number:
                console.print()
            for name, cell in zip(columns, row, strict=True):
                line = Text(name + " " * (label - cell_len(name) + 2), "dim")
                console.print(line.append(cell, COLOURS.get(cell, "not dim")), overflow="fold")


def _boxed(columns: Sequence[str], rows: Sequence[Sequence[str]], wide: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, no_wrap=number != wide, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    return table
