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
CLOSE: Final = 18
"""The same where the other columns are narrowed as well."""
NARROWED: Final = 14
"""Columns that a narrowed column has at least, unless it needs less."""
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


def widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], wide: int, room: int, *, narrowed: Sequence[int] = ()
) -> list[int] | None:
    """Return how wide each column of a table is, None where there is no room for one.

    Column `wide` takes what the others leave, and not below LEAST. The `narrowed` ones are as wide as their content
    while there is room for it, else up to their longest word, and not below NARROWED; `wide` has CLOSE then at least.
    """
    if room < NARROW:
        return None
    found = [max(cells(row[i]) for row in (columns, *rows)) for i in range(len(columns))]
    words = {i: max(cells(each) for row in (columns, *rows) for each in _breakable(row[i])) for i in narrowed}
    natural = list(found)

    def left() -> int:
        return room - sum(found) + found[wide] - GAP * (len(columns) - 1)

    for i, longest in words.items():
        found[i] = min(longest, max(NARROWED, cells(columns[i])))
    if left() < min(CLOSE if narrowed else LEAST, natural[wide]):
        return None
    spare = min(LEAST, natural[wide])
    for i, longest in words.items():
        found[i] = max(found[i], min(longest, found[i] + left() - spare))
    for i in words:  # in one line, or it stays as it is
        if left() - spare >= natural[i] - found[i]:
            found[i] = natural[i]
    found[wide] = min(natural[wide], left())
    return found


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    sizes: Sequence[int],
    colours: dict[str, str],
) -> Table:
    """Return a table for rich, its cells wrapped to the `sizes` of the columns. `colours`: of cells that are a word."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, GAP - 1, 0, 0))
    for name in columns:
        drawn.add_column(name, no_wrap=True, overflow="fold")
    for row in rows:
        texts = ("\n".join(_in_column(cell, size)) for cell, size in zip(row, sizes, strict=True))
        drawn.add_row(*(Text(text, style=colours.get(cell, "")) for text, cell in zip(texts, row, strict=True)))
    return drawn


def _breakable(cell: str) -> list[str]:
    """Return the pieces of a cell that are not cut while there is room: its words, an address as two."""
    return re.findall(r"[^\s@]+|@[^\s@]*", cell) or [""]


def _in_column(cell: str, size: int) -> list[str]:
    """Return a cell in lines of its column; an address without room is cut before its @ first. Nothing is left out."""
    if cells(cell) <= size:
        return [cell]
    parts = re.split(r"(?=@)", cell) if " " not in cell else [cell]
    return [piece for part in parts if part for piece in wrap(part, size, chop=True)]
