"""Text on a terminal of any width: wrapping at words, tables, and cards where a table would squeeze its columns.

What is laid out here is safe to look at already (peer.dispatches.text). Nothing is written; output.py does that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from rich.table import Table

NARROW: Final = 60
"""Columns below which every table is a list of cards, and a value stands below its name."""
LEAST: Final = 24
"""Columns that the column of longer text needs beside the others."""
GAP: Final = 2
"""Columns between two columns of a table, and between a name and its value."""

Styled = tuple[str, str]
"""A piece of a line and what it is: `name`, `title`, or "" for a value."""

_IDEOGRAPHS: Final = "\u2e80-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
"""Chinese, Japanese and Korean writing: it has no blanks, and is cut anywhere."""
_RUNS: Final = re.compile(f"[^{_IDEOGRAPHS}]+|.")
_WORDS: Final = re.compile(r"( *)([^\s`]*`[^`]+`[^\s`]*|\S+)")
"""A word with the blanks before it. A command in backticks is one word, so that it can be copied as it stands."""


def width(stream: TextIO) -> int:
    """Return the columns of the terminal that `stream` is: $COLUMNS, else its own, else 80."""
    named = os.environ.get("COLUMNS", "")
    if named.isascii() and named.isdigit() and int(named) > 0:
        return int(named)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def cells(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # 5 ms

    return cell_len(text)


def wrap(text: str, room: int, *, hanging: int = 0, chop: bool = False) -> list[str]:
    """Return one line in pieces of at most `room` columns, cut between words; later ones begin with `hanging` blanks.

    A word that is wider than a piece stands by itself and overflows, so that it can be copied; with `chop` it is cut,
    for a text of somebody else, which must not begin a line of its own at the terminal's edge.
    """
    room = max(room, 1)
    if cells(text) <= room:
        return [text]
    hanging = hanging if hanging < room // 2 else 0
    pieces: list[str] = []
    current, blank = "", True
    for gap, word in _words(text, room - hanging, chop=chop):
        if blank:
            current, blank = current + gap + word, False
        elif cells(current) + len(gap) + cells(word) <= room:
            current += gap + word
        else:
            pieces.append(current)
            current = " " * hanging + word
    return [*pieces, current] if current or not pieces else pieces


def _words(text: str, room: int, *, chop: bool) -> Iterable[tuple[str, str]]:
    """Yield the words of a text, each with the blanks before it. What is wider than `room` comes in its parts."""
    for match in _WORDS.finditer(text):
        gap, word = match.groups()
        for part, blanks in _parts(word, gap) if cells(word) > room else [(word, gap)]:
            if chop and cells(part) > room:
                from rich.cells import chop_cells

                first, *rest = chop_cells(part, room)
                yield blanks, first
                yield from (("", each) for each in rest)
            else:
                yield blanks, part


def _parts(word: str, gap: str) -> list[tuple[str, str]]:
    """Return the parts of a word at which it may be cut all the same: blanks inside backticks, any two ideographs."""
    found = []
    for number, (blanks, part) in enumerate(re.findall(r"( *)(\S+)", word)):
        runs = [part] if part.isascii() else _RUNS.findall(part)
        found += [(run, (blanks if number else gap) if not place else "") for place, run in enumerate(runs)]
    return found


def pair(name: str, value: Sequence[str], *, label: int, room: int) -> list[list[Styled]]:
    """Return the lines of a name and its values: beside each other, or on a narrow terminal one below the other."""
    beside, hanging = label + GAP, 2 if len(value) > 1 else 0
    if room < NARROW and any(cells(each) > room - beside for each in value):
        lines: list[list[Styled]] = [[(name, "name")]]
        return lines + [[("  " + piece, "")] for each in value for piece in wrap(each, room - 2, hanging=hanging)]
    pieces = [piece for each in value for piece in wrap(each, room - beside, hanging=hanging)]
    lines = [[(" " * beside + piece, "")] for piece in pieces]
    if pieces:
        lines[0] = [(name + " " * (label - cells(name)), "name"), (" " * GAP, ""), (pieces[0], "")]
    return lines


def cards(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[list[Styled]]:
    """Return rows as blocks of lines, an empty line between two: the first cell, and below it the others by name."""
    label = max(map(cells, columns[1:]), default=0)
    lines: list[list[Styled]] = []
    for row in rows:
        if lines:
            lines.append([])
        lines += [[(piece, "title")] for piece in wrap(row[0], room, hanging=2)]
        for name, cell in zip(columns[1:], row[1:], strict=True):
            if cell != "-":
                lines += [[("  ", ""), *line] for line in pair(name, [cell], label=label, room=room - 2)]
    return lines


def fits(columns: Sequence[str], rows: Sequence[Sequence[str]], wide: int, room: int) -> bool:
    """Whether a table has room for all its columns, with column `wide` alone wrapped, and not below LEAST."""
    widths = [max(cells(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    others = sum(widths) - widths[wide] + GAP * (len(columns) - 1)
    return room >= NARROW and room - others >= min(LEAST, widths[wide])


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], wide: int, colours: dict[str, str]) -> Table:
    """Return a table for rich of which only column `wide` wraps. `colours`: of cells that are such a word."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0))
    for number, name in enumerate(columns):
        drawn.add_column(name, no_wrap=number != wide, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in row))
    return drawn
