"""Output for people or as JSON: the only module that writes to the terminal. What is shown is decided by the commands.

Much of the text comes from other people, and terminals execute control sequences. So commands do not write themselves:
every text passes through here and is neutralised (peer.dispatches.text). JSON is pure ASCII for the same reason. On a
terminal lines are wrapped at words (layout.py), and tables and Markdown are drawn by rich, whose import takes longer
than the rest of a command. In a pipe nothing is wrapped, tables are plain columns, and Markdown is as it was written.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TextIO

from cli import layout
from cli.home_folder import homes
from cli.short_ids import shortened
from peer.dispatches import text
from peer.protocol.errors import DispatchError

BAR = "│ "
"""Before each line of a text that somebody else wrote."""

CELL = 120
"""Characters of a cell in a table."""

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
    """The output of one invocation. With `json`, stdout has documents only and notes for people are left out.

    With `raw`, Markdown is shown as it was written, on a terminal too.
    """

    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.raw = False
        self._working = ""

    def document(self, document: object, *, one_line: bool = False) -> None:
        """Write one JSON document to stdout."""
        raw = json.dumps(document, ensure_ascii=True, indent=None if one_line else 2)
        sys.stdout.write(raw + "\n")
        sys.stdout.flush()

    def line(
        self,
        content: str = "",
        *,
        style: str | None = None,
        indent: int = 0,
        hanging: int = 2,
        paths: bool = False,
    ) -> None:
        """Write one line to stdout; `style` is a colour, `bold` or `dim`, used on a terminal only.

        On a terminal what is longer is wrapped at words; `hanging`: how much further in the next lines begin. With
        `paths`, which is for sentences of ours, the home folder is `~` there.
        """
        self._write(text.line(content), style, err=False, indent=indent, hanging=hanging, paths=paths)

    def option(self, key: str, words: str, *, style: str | None = None) -> None:
        """Write an answer that a person may choose: its key, and what it means."""
        self.line(f"{key}  {words}", indent=2, style=style, hanging=len(key) + 2)

    def block(self, content: str, *, indent: int = 2, style: str | None = None) -> None:
        """Write a text of this program of several lines to stdout, each indented, none wrapped: it may be a script."""
        for part in text.block(content).split("\n"):
            _echo(_styled(" " * indent + part, style, sys.stdout), sys.stdout)

    def quote(self, content: str, *, indent: int = 2, style: str | None = None) -> None:
        """Write a text of somebody else to stdout, each line behind a bar, so that none looks like ours.

        On a terminal it is wrapped at words, and a word that is wider is cut: else the terminal would begin a line of
        its own, without a bar, with the rest.
        """
        before = " " * indent + BAR
        for part in text.block(content).split("\n"):
            for piece in _folded(part, len(before)):
                _echo(_styled(before + piece, style, sys.stdout), sys.stdout)

    def markdown(self, content: str, *, indent: int = 2) -> None:
        """Write a text of somebody else as `quote` does, its Markdown drawn on a terminal unless `raw`."""
        if self.raw or not sys.stdout.isatty():
            self.quote(content, indent=indent)
            return
        from cli.markdown import drawn

        before = " " * indent + BAR
        lines = drawn(content, width=layout.width(sys.stdout) - len(before), colour=colour(sys.stdout))
        if lines is None:
            self.quote(content, indent=indent)
            return
        for each in lines:
            _echo((before + each).rstrip(), sys.stdout)

    def pairs(self, pairs: Mapping[str, str | Sequence[str]]) -> None:
        """Write `name  value` lines, aligned; of several values each on a line, below the name."""
        label = max((len(name) for name in pairs), default=0)
        terminal = sys.stdout.isatty()
        room = layout.width(sys.stdout) if terminal else sys.maxsize
        for name, value in pairs.items():
            values = [text.line(each) for each in ([value] if isinstance(value, str) else value)]
            values = [homes(each) for each in values] if terminal else values
            for row in layout.pair(name, values, label=label, room=room):
                _echo_styled(row)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        wraps: str,
        empty: str,
        narrowed: Collection[str] = (),
    ) -> None:
        """Write rows under headings, or the line `empty` when there are none. `wraps`: the column of longer text.

        `narrowed`: columns that wrap as well where there is little room. On a terminal without room for that, each row
        is a block of lines.
        """
        if not rows:
            self.line(empty, style="dim")
            return
        shown = [[text.line(cell, limit=CELL) for cell in row] for row in rows]
        if sys.stdout.isatty():
            room, wide = layout.width(sys.stdout), columns.index(wraps)
            also = [columns.index(name) for name in narrowed]
            if sizes := layout.widths(columns, shown, wide, room, narrowed=also):
                from rich.console import Console

                # Without a colour system there are no bold and dim either, which `no_color` would leave.
                console = Console(color_system="auto" if colour(sys.stdout) else None, highlight=False, width=room)
                console.print(layout.table(columns, shown, sizes, COLOURS))
                return
            for pieces in layout.cards(columns, shown, room):
                _echo_styled(pieces)
        else:
            shown = [list(columns), *shown]
            widths = [max(len(row[i]) for row in shown) for i in range(len(columns))]
            for row in shown:
                line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
                _echo(line.rstrip(), sys.stdout)

    def working(self, words: str) -> None:
        """Show on a terminal what is waited for, until the next line of output; "" for nothing more."""
        if self.json or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return
        self._erase()
        if words:
            shown = layout.wrap(text.line(words), layout.width(sys.stderr) - 1)[0]
            sys.stderr.write(_styled(shown, "dim", sys.stderr))
            sys.stderr.flush()
            self._working = shown

    def _erase(self) -> None:
        if self._working:
            # Blanks over it: an escape code is not for everybody who reads this (NO_COLOR).
            sys.stderr.write(f"\r{' ' * layout.cells(self._working)}\r")
            self._working = ""
            sys.stderr.flush()

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
        self._write(f"error {error.code}: {shortened(text.line(error.message))}", "red", err=True)
        if error.fix:
            self._write("fix: " + shortened(text.line(error.fix)), None, err=True)
        if self.json:
            self.document({"error": error.to_json()})

    def interrupted(self) -> None:
        """Write that Ctrl-C ended the command, with --json as an error's document."""
        if self.json:
            self.document({"error": {"code": 499, "message": "interrupted", "fix": ""}})
        self._write("interrupted", None, err=True)

    def _write(
        self, safe: str, style: str | None, *, err: bool, indent: int = 0, hanging: int = 2, paths: bool = False
    ) -> None:
        stream = sys.stderr if err else sys.stdout
        if (paths or err) and stream.isatty():
            safe = homes(safe)
        self._erase()
        room = layout.width(stream) - indent if stream.isatty() else sys.maxsize
        for piece in layout.wrap(safe, room, hanging=hanging):
            _echo(_styled(" " * indent + piece, style, stream), stream)


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


def _echo_styled(line: Sequence[layout.Styled]) -> None:
    """Write a line to stdout that is made of names and values."""
    styles = {"name": "dim", "title": "bold"}
    pieces = [_styled(part, styles.get(kind, COLOURS.get(part.strip())), sys.stdout) for part, kind in line]
    _echo("".join(pieces).rstrip(), sys.stdout)


def _folded(part: str, before: int) -> list[str]:
    """Return a line in pieces that fit on the terminal behind so many columns; in a pipe the line."""
    if not sys.stdout.isatty():
        return [part]
    return layout.wrap(part, layout.width(sys.stdout) - before, chop=True)
