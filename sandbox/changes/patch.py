"""A change set as a patch that git and patch(1) apply, for the sender of the task. What is read is contents.py's.

Names begin with that of the granted folder (`till/…`), so no path of the person's machine is in it. What was deleted is
named only, and no line is in it that the run did not write or replace: the sender gets no more of a folder than that.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Final, Protocol

from sandbox.changes.contents import Unshown, decoded
from sandbox.changes.values import ChangeSet, Entry
from sandbox.gate import line_diff

MAX_PATCH: Final = 1_000_000
"""Bytes of one patch, the comments in front aside. Files that no longer fit are named only."""
_MAX_READ: Final = 50_000_000
"""Bytes of the files that are compared for one patch."""
_MAX_NAMED: Final = 200
_INCOMPLETE: Final = "# Not everything was examined: there was too much, or it could not be read."
_APPLY: Final = "# To apply it in the folder: git apply -p2 --unidiff-zero changes.diff"


class Contents(Protocol):
    """Where old and new contents come from."""

    def of(self, entry: Entry) -> tuple[bytes | None, bytes | None]:
        """(old, new), each None where there is none. Raises Unshown."""
        ...


def patch(changes: ChangeSet, contents: Contents, *, limit: int = MAX_PATCH) -> str:
    """One patch of all entries that can be shown; before it, as comments, those that are not. "" for no changes."""
    if not changes.entries and not changes.incomplete:
        return ""
    names = {view.number: view.called.encode() for view in changes.views}
    matching = line_diff.Matching()
    named: list[str] = []
    unnamed = 0
    shown: list[str] = []
    size = read = 0
    for entry in changes.entries:
        name = names[entry.view] + (b"/" + entry.path if entry.path else b"")
        try:
            read += entry.size + (entry.base.size if entry.base else 0)
            if size >= limit or read > _MAX_READ:
                raise Unshown("no more room")
            old = names[entry.view] + b"/" + entry.renamed_from if entry.renamed_from else name
            part = "".join(_part(entry, old, name, contents, matching))
            if size + len(part.encode("utf-8", "surrogateescape")) > limit:
                raise Unshown("no more room")
        except Unshown as why:
            if len(named) < _MAX_NAMED:
                named.append(f"#   {quoted(name)} ({entry.change}; {why})")
            else:
                unnamed += 1
            continue
        shown.append(part)
        size += len(part.encode("utf-8", "surrogateescape"))
    heading = ["# Changed, and not shown here:", *named] if named else []
    heading += [f"#   and {unnamed:,} more"] if unnamed else []
    heading += ["# Not everything was examined: there was too much, or it could not be read."] * bool(
        changes.incomplete
    )
    heading += [_APPLY] if shown else []
    return "".join((*(f"{line}\n" for line in heading), *shown))


def _part(entry: Entry, old: bytes, new: bytes, contents: Contents, matching: line_diff.Matching) -> Iterator[str]:
    """The lines of one entry. Raises Unshown."""
    if entry.never:
        raise Unshown("not applied")
    if entry.conflict:
        raise Unshown("it changed in the folder meanwhile")
    if entry.change == "deleted":
        raise Unshown("its content is not shown")
    if entry.change == "commits":
        raise Unshown(f"{entry.count:,} of them")
    if entry.change == "folded" or entry.kind not in ("file", "link"):
        raise Unshown("no plain file")
    if entry.change == "renamed":
        yield f"diff --git {quoted(b'a/' + old)} {quoted(b'b/' + new)}\nsimilarity index 100%\n"
        yield f"rename from {quoted(old)}\nrename to {quoted(new)}\n"
        return
    yield f"diff --git {quoted(b'a/' + new)} {quoted(b'b/' + new)}\n"
    if entry.kind == "link":
        if entry.base is not None:
            raise Unshown("a link in place of something else")
        after: str | None = entry.target.decode("utf-8", "surrogateescape")
        before = None
        yield "new file mode 120000\n"
    else:
        mode = "100755" if entry.executable else "100644"
        if entry.base is None:
            yield f"new file mode {mode}\n"
        elif bool(entry.base.mode & stat.S_IXUSR) != entry.executable:
            yield f"old mode {'100644' if entry.executable else '100755'}\nnew mode {mode}\n"
        if entry.change == "mode":
            return
        before, after = map(decoded, contents.of(entry))
    lines = line_diff.unified(line_diff.lines(before or ""), line_diff.lines(after or ""), matching, context=0)
    body = list(lines)
    if body:
        yield f"--- {'/dev/null' if entry.base is None else quoted(b'a/' + new)}\n+++ {quoted(b'b/' + new)}\n"
        yield from body


def quoted(name: bytes) -> str:
    """A file's name as git writes it: quoted, with octal escapes, where it would be ambiguous."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and not set(text) & set(' "\\'):
        return text
    escaped = "".join(
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}" for byte in name
    )
    return f'"{escaped}"'
