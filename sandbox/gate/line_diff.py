"""Unified hunks of two lists of lines, within a bound of work whatever the lines are. Pure; shared by the preview of a
call and the diff that a run returns.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Final

_MAX_COMPARISONS: Final = 4_000_000
"""Lines before times lines after, common beginning and end aside: beyond it all of one is replaced by all of the other.
difflib takes more than quadratic time on lines that a run may craft.
"""
_MAX_COMPARISONS_IN_ALL: Final = 20_000_000
CONTEXT: Final = 3
"""Unchanged lines around a change."""

_Code = tuple[str, int, int, int, int]


class Matching:
    """Finds the lines that stayed, as long as the work is within bounds: one for all files of a diff."""

    def __init__(self) -> None:
        self._left = _MAX_COMPARISONS_IN_ALL

    def codes(self, old: list[str], new: list[str]) -> list[_Code]:
        """difflib's opcodes without the equal ones."""
        cost = len(old) * len(new)
        if cost > min(_MAX_COMPARISONS, self._left):
            return [("replace", 0, len(old), 0, len(new))]
        self._left -= cost
        return [code for code in difflib.SequenceMatcher(None, old, new).get_opcodes() if code[0] != "equal"]


def unified(old: list[str], new: list[str], matching: Matching, *, context: int = CONTEXT) -> Iterator[str]:
    """Hunks with `context` lines around each, every line with its end; a last line without a newline is marked as diff
    and patch do.
    """
    for group in _grouped(changes(old, new, matching), context):
        first, last = group[0], group[-1]
        before = min(context, first[1], first[3])
        a, c = first[1] - before, first[3] - before
        after = min(context, len(old) - last[2], len(new) - last[4])
        b, d = last[2] + after, last[4] + after
        yield f"@@ -{_range(a, b)} +{_range(c, d)} @@\n"
        at = a
        for _, old_from, old_to, new_from, new_to in group:
            yield from (_row(" ", line) for line in old[at:old_from])
            yield from (_row("-", line) for line in old[old_from:old_to])
            yield from (_row("+", line) for line in new[new_from:new_to])
            at = old_to
        yield from (_row(" ", line) for line in old[at:b])


def changes(old: list[str], new: list[str], matching: Matching) -> list[_Code]:
    """Return what differs, as difflib's opcodes without the equal ones."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    codes = matching.codes(old[start : len(old) - end], new[start : len(new) - end])
    return [(tag, a + start, b + start, c + start, d + start) for tag, a, b, c, d in codes]


def _grouped(codes: list[_Code], context: int) -> Iterator[list[_Code]]:
    group: list[_Code] = []
    for code in codes:
        if group and code[1] - group[-1][2] > 2 * context:
            yield group
            group = []
        group.append(code)
    if group:
        yield group


def _range(start: int, stop: int) -> str:
    length = stop - start
    if length == 1:
        return f"{start + 1}"
    return f"{start + 1 if length else start},{length}"


def _row(sign: str, line: str) -> str:
    return f"{sign}{line}" if line.endswith("\n") else f"{sign}{line}\n\\ No newline at end of file\n"


def lines(text: str) -> list[str]:
    # At newlines only: a form feed or a lone carriage return is part of its line, for patch too.
    *whole, last = text.split("\n")
    return [f"{line}\n" for line in whole] + ([last] if last else [])
