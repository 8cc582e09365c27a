"""The diff that a run returns: what it changed in the person's folders, as text. Pure; snapshot.py finds the changes.

Names are those the run saw (`project/…`), so no path of this machine is in it. `patch -p2` applies it in the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sandbox.gate import line_diff
from sandbox.run.snapshot import Change

MAX_DIFF: Final = 1_000_000
"""Bytes of one diff. Files that no longer fit are named only."""
_MAX_NAMED: Final = 200


def unified_diff(changes: Iterable[Change], *, whole: Callable[[], bool], limit: int = MAX_DIFF) -> str:
    """One unified diff of the text files; before it, as comments, what changed and is not shown. "" for no changes.

    `whole` is called at the end: whether `changes` were all. `limit` is in bytes, the comments aside.
    """
    named: list[str] = []
    shown: list[str] = []
    size = 0
    count = 0
    matching = line_diff.Matching()
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


def _part(change: Change, matching: line_diff.Matching) -> tuple[str, str]:
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
    lines = list(line_diff.unified(line_diff.lines(before or ""), line_diff.lines(after or ""), matching))
    if not lines:
        return "", "empty"
    old = "/dev/null" if before is None else _quoted(f"a/{change.name}")
    new = "/dev/null" if after is None else _quoted(f"b/{change.name}")
    return "".join((f"--- {old}\n", f"+++ {new}\n", *lines)), ""


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
