"""The diff that a run returns: what it changed in the person's folders, as text. Pure; snapshot.py finds the changes.

Names are those the run saw (`project/…`), so no path of this machine is in it. `patch -p2` applies it in the folder.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from sandbox.run.snapshot import Change

MAX_DIFF: Final = 1_000_000
"""Bytes of one diff. Files that no longer fit are named only."""
_MAX_COMPARISONS: Final = 4_000_000
"""Lines before times lines after, common beginning and end aside: beyond it all of one is replaced by all of the other.
difflib takes more than quadratic time on lines that a run may craft.
"""
_MAX_COMPARISONS_IN_ALL: Final = 20_000_000
_MAX_NAMED: Final = 200
_CONTEXT: Final = 3

_Code = tuple[str, int, int, int, int]


def unified_diff(changes: Iterable[Change], *, whole: Callable[[], bool], limit: int = MAX_DIFF) -> str:
    """One unified diff of the text files; before it, as comments, what changed and is not shown. "" for no changes.

    `whole` is called at the end: whether `changes` were all. `limit` is in bytes, the comments aside.
    """
    named: list[str] = []
    shown: list[str] = []
    size = 0
    count = 0
    matching = _Matching()
    for change in changes:
        count += 1
        part, why = _part(change, matching) if size < limit else ("", "no more room")
        if part and size + len(part.encode()) > limit:
            part, why = "", "no more room"
        if part:
            shown.append(part)
            size += len(part.encode())
        else:
            named.append(f"#   {_quoted(change.name)} ({_what(change)}; {why})")
    if not count and whole():
        return ""
    heading = []
    if named:
        heading.append("# Changed, and not shown here:")
        heading += named[:_MAX_NAMED]
        if len(named) > _MAX_NAMED:
            heading.append(f"#   and {len(named) - _MAX_NAMED} more")
    if not whole():
        heading.append("# Not everything was looked at: there was too much, or it could not be opened.")
    return "".join((*(f"{line}\n" for line in heading), *shown))


class _Matching:
    """Finds the lines that stayed, as long as the work is within bounds."""

    def __init__(self) -> None:
        self._left = _MAX_COMPARISONS_IN_ALL

    def codes(self, old: list[str], new: list[str]) -> list[_Code]:
        """difflib's opcodes without the equal ones."""
        cost = len(old) * len(new)
        if cost > min(_MAX_COMPARISONS, self._left):
            return [("replace", 0, len(old), 0, len(new))]
        self._left -= cost
        return [code for code in difflib.SequenceMatcher(None, old, new).get_opcodes() if code[0] != "equal"]


def _part(change: Change, matching: _Matching) -> tuple[str, str]:
    """(the diff of one file, "") or ("", why there is none)."""
    if not change.shown:
        return "", "too large, or no plain file"
    try:
        before = None if change.before is None else change.before.decode()
        after = None if change.after is None else change.after.decode()
    except UnicodeDecodeError:
        return "", "not text"
    if "\0" in (before or "") or "\0" in (after or ""):
        return "", "not text"
    lines = list(_unified(_lines(before or ""), _lines(after or ""), matching))
    if not lines:
        return "", "empty"
    old = "/dev/null" if before is None else _quoted(f"a/{change.name}")
    new = "/dev/null" if after is None else _quoted(f"b/{change.name}")
    return "".join((f"--- {old}\n", f"+++ {new}\n", *lines)), ""


def _unified(old: list[str], new: list[str], matching: _Matching) -> Iterator[str]:
    """Hunks, each line with its end; a last line without a newline is marked as diff and patch do."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    codes = matching.codes(old[start : len(old) - end], new[start : len(new) - end])
    moved = [(tag, a + start, b + start, c + start, d + start) for tag, a, b, c, d in codes]
    for group in _grouped(moved):
        first, last = group[0], group[-1]
        before = min(_CONTEXT, first[1], first[3])
        a, c = first[1] - before, first[3] - before
        after = min(_CONTEXT, len(old) - last[2], len(new) - last[4])
        b, d = last[2] + after, last[4] + after
        yield f"@@ -{_range(a, b)} +{_range(c, d)} @@\n"
        at = a
        for _, old_from, old_to, new_from, new_to in group:
            yield from (_row(" ", line) for line in old[at:old_from])
            yield from (_row("-", line) for line in old[old_from:old_to])
            yield from (_row("+", line) for line in new[new_from:new_to])
            at = old_to
        yield from (_row(" ", line) for line in old[at:b])


def _grouped(codes: list[_Code]) -> Iterator[list[_Code]]:
    group: list[_Code] = []
    for code in codes:
        if group and code[1] - group[-1][2] > 2 * _CONTEXT:
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


def _lines(text: str) -> list[str]:
    # At newlines only: a form feed or a lone carriage return is part of its line, for patch too.
    *whole, last = text.split("\n")
    return [f"{line}\n" for line in whole] + ([last] if last else [])


def _what(change: Change) -> str:
    return "new" if change.before is None else "removed" if change.after is None else "changed"


def _quoted(name: str) -> str:
    """A file's name as git writes it: quoted, with octal escapes, where it would be ambiguous."""
    raw = name.encode("utf-8", "surrogateescape")
    if all(0x20 < byte < 0x7F and byte not in b'"\\' for byte in raw) or (
        name.isprintable() and not set(name) & set('"\\')
    ):
        return name if " " not in name else f'"{name}"'
    escaped = "".join(
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}" for byte in raw
    )
    return f'"{escaped}"'
