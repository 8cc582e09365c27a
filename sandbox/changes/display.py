"""One entry of a change set as a diff for the person, with what is around each change."""

from __future__ import annotations

import stat
from pathlib import Path

from sandbox.changes.contents import Unshown, commits_text, decoded, new_content, old_content
from sandbox.changes.patch import quoted
from sandbox.changes.values import Entry
from sandbox.gate import line_diff


def diff_of(entry: Entry, root: Path, folder: Path) -> str:
    """Return the diff of an entry; "" where there is nothing to show as text. Blocking; nothing raises.

    `root`: of its view. `folder`: where changes.json and the blobs lie. The old content is shown only while the
    person's folder still holds it.
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
    return "".join(head) + (_content(entry, root, folder, old, new) if not entry.renamed_from else "")


def _content(entry: Entry, root: Path, folder: Path, old: bytes, new: bytes) -> str:
    try:
        before = _text_of_base(entry, root)
        after = (
            _link(entry.target)
            if entry.kind == "link" and entry.change != "deleted"
            else (decoded(new_content(entry, folder)) if entry.kind == "file" else None)
        )
    except Unshown:
        return ""
    matching = line_diff.Matching()
    body = list(line_diff.unified(line_diff.lines(before or ""), line_diff.lines(after or ""), matching))
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
