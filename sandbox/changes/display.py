"""What a person sees of one entry of a change set: a diff with what is around each change, and counts of lines.

The old content is shown only while the person's folder still holds it. Blocking; nothing raises.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from sandbox.changes.contents import Unshown, commits_text, decoded, new_content, old_content
from sandbox.changes.patch import quoted
from sandbox.changes.values import Entry
from sandbox.gate import line_diff

MAX_COUNTED: Final = 50_000_000
"""Bytes that are read to count the lines of one list."""


def diff_of(entry: Entry, root: Path, folder: Path, *, context: int = line_diff.CONTEXT) -> str:
    """Return the diff of an entry, with `context` unchanged lines around; "" where there is nothing to show as text.

    `root`: of its view. `folder`: where changes.json and the blobs lie.
    """
    if entry.change in ("folded", "dropped", "unread"):
        return ""
    if entry.change == "commits":
        try:
            return commits_text(entry, folder)
        except Unshown:
            return ""
    old = b"a/" + (entry.renamed_from or entry.path or root.name.encode())
    new = b"b/" + (entry.path or root.name.encode())
    head = []
    if entry.renamed_from:
        head.append(f"rename from {quoted(entry.renamed_from)}\nrename to {quoted(entry.path)}\n")
    elif entry.base is not None and entry.kind == "file" and entry.change != "deleted":
        before = bool(entry.base.mode & stat.S_IXUSR)
        if entry.base.kind == "file" and before != entry.executable:
            head.append(
                "".join(
                    f"{when} mode 100{mode}\n"
                    for when, mode in zip(
                        ("old", "new"), ("755" if x else "644" for x in (before, entry.executable)), strict=True
                    )
                )
            )
    return "".join(head) + (_content(entry, root, folder, old, new, context) if not entry.renamed_from else "")


def texts_of(entry: Entry, root: Path, folder: Path) -> tuple[str, str] | None:
    """Return the old and the new text of a file, "" for none; None for what is no text, or no longer there."""
    links = entry.kind == "link" or (entry.base is not None and entry.base.kind == "link")
    if links or entry.renamed_from or entry.change in ("folded", "dropped", "unread"):
        return None
    try:
        before, after = _before_and_after(entry, root, folder)
    except Unshown:
        return None
    return before or "", after or ""


def line_counts(entries: Iterable[Entry], roots: Mapping[int, Path], folder: Path) -> dict[int, tuple[int, int]]:
    """Return number → (added, removed) lines of each entry that a diff shows, as far as the bounds reach."""
    matching = line_diff.Matching()
    counts: dict[int, tuple[int, int]] = {}
    left = MAX_COUNTED
    for entry in entries:
        left -= entry.size + (entry.base.size if entry.base else 0)
        if entry.change in ("folded", "dropped", "unread") or entry.renamed_from or left < 0:
            continue
        try:
            before, after = _before_and_after(entry, roots[entry.view], folder)
        except Unshown:
            continue
        codes = line_diff.changes(line_diff.lines(before or ""), line_diff.lines(after or ""), matching)
        counts[entry.number] = sum(d - c for _, _, _, c, d in codes), sum(b - a for _, a, b, _, _ in codes)
    return counts


def _before_and_after(entry: Entry, root: Path, folder: Path) -> tuple[str | None, str | None]:
    """Raises Unshown."""
    after = (
        _link(entry.target)
        if entry.kind == "link" and entry.change != "deleted"
        else (decoded(new_content(entry, folder)) if entry.kind == "file" else None)
    )
    return _text_of_base(entry, root), after


def _content(entry: Entry, root: Path, folder: Path, old: bytes, new: bytes, context: int) -> str:
    try:
        before, after = _before_and_after(entry, root, folder)
    except Unshown:
        return ""
    matching = line_diff.Matching()
    old_lines, new_lines = line_diff.lines(before or ""), line_diff.lines(after or "")
    body = list(line_diff.unified(old_lines, new_lines, matching, context=context))
    if not body:
        return ""
    first = "/dev/null" if before is None else quoted(old)
    second = "/dev/null" if after is None else quoted(new)
    return "".join((f"--- {first}\n+++ {second}\n", *body))


def _text_of_base(entry: Entry, root: Path) -> str | None:
    if entry.base is not None and entry.base.kind == "link":
        return _link(entry.base.target)
    if entry.base is not None and entry.base.kind == "folder":
        return None
    return decoded(old_content(entry.path, entry.base, root))


def _link(target: bytes) -> str:
    return f"link to {quoted(target)}\n"
