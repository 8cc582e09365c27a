"""Why a change is put in place only if the person chooses it by itself. Pure.

It is an allow-list: no mark has only a plain text file, by a name that stands for prose or for source that something
must import or compile, in a place that version control has. The lists of other names explain a mark to a person; one
that is missing there has another mark, or is of an allowed kind, which a person reads whole.
"""

from __future__ import annotations

import fnmatch
import stat
import sys
from dataclasses import dataclass
from typing import Final

from sandbox.changes.bounds import MAX_TEXT
from sandbox.changes.draft import Draft
from sandbox.changes.kinds import BARE, BUILD, LOADED, LOADED_LIKE, OBEYED_FOLDERS, PROSE, SCRIPTS, SETTINGS, SOURCE
from sandbox.changes.names import REPOSITORY_PARTS
from sandbox.changes.text import is_plain_name

_EXECUTE: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_CHANGES: Final = frozenset(["added", "changed", "deleted", "renamed"])

LINK: Final = "a symbolic link"
EXECUTABLE: Final = "it is executable"
WAS_EXECUTABLE: Final = "what it replaces is executable"
HIDDEN: Final = "a name that begins with a dot"
NOT_TEXT: Final = "not plain text that can be shown whole"
IGNORED: Final = "version control ignores it"
REPOSITORY: Final = "its folder is a repository of its own, whose settings git obeys"
NESTED: Final = "it lies in a repository of its own"
STANDARD: Final = "Python loads a module of this name instead of its own"


@dataclass(frozen=True, slots=True)
class Tracked:
    """What version control says of one view. `ignored`: paths; `problem`: why it could not be asked, or ""."""

    ignored: frozenset[bytes] = frozenset()
    problem: str = ""


def marks(draft: Draft, tracked: Tracked, *, name: bytes = b"") -> list[str]:
    """The marks of an entry, as short sentences; empty for an unmarked one. `name`: of a granted file itself."""
    reasons = list(draft.notes)
    if draft.change not in _CHANGES:
        reasons += ["only the permission to execute changes"] if draft.change == "mode" else []
        reasons += [] if draft.change in ("mode", "folded") else ["it is not applied"]
    base = draft.base
    if draft.kind == "link" or (base is not None and base.kind == "link"):
        reasons.append(LINK)
    elif draft.kind != "file":
        reasons.append("a folder" if draft.kind == "folder" else "not a file")
    elif base is not None and base.kind != "file":
        reasons.append(f"it replaces a {base.kind if base.kind == 'folder' else 'special file'}")
    elif not draft.plain or max(draft.size, base.size if base else 0) > MAX_TEXT:
        reasons.append(NOT_TEXT)
    if draft.executable:
        reasons.append(EXECUTABLE)
    if base is not None and base.kind == "file" and base.mode & _EXECUTE:
        reasons.append(WAS_EXECUTABLE)
    if base is not None and base.kind == "file" and not base.sha256:
        reasons.append("what it replaces could not be compared")
    for path in (draft.path or name, draft.renamed_from):
        if path:
            reasons += _of_name(path, is_file=draft.kind == "file")
    if draft.repository:
        reasons.append(REPOSITORY)
    if draft.nested:
        reasons.append(NESTED)
    if not draft.askable:
        reasons.append("its folder replaces a file or link")
    if tracked.problem:
        reasons.append(tracked.problem)
    elif draft.path in tracked.ignored or (draft.renamed_from and draft.renamed_from in tracked.ignored):
        reasons.append(IGNORED)
    return list(dict.fromkeys(reasons))


def _of_name(path: bytes, *, is_file: bool) -> list[str]:
    parts = path.lower().split(b"/")
    reasons = [HIDDEN] if any(part.startswith(b".") for part in parts) else []
    if not is_plain_name(path):
        reasons.append("its name is not plain text")
    elif is_file:
        reasons += _of_kind(parts[-1].decode(), [part.decode() for part in parts[:-1]])
    if b"head" in parts or any(part in parts for part in REPOSITORY_PARTS):
        reasons.append("a name that belongs to a repository")
    return reasons


def _of_kind(name: str, folders: list[str]) -> list[str]:
    stem, dot, last = name.rpartition(".")
    end = f".{last}" if dot and stem else ""
    whole = name if not end else stem
    if name in LOADED or name in BUILD or any(fnmatch.fnmatchcase(name, like) for like in LOADED_LIKE):
        return ["a name that programs load or obey by its presence"]
    if end in SETTINGS:
        return ["settings that programs may load or obey by their presence"]
    if end in SCRIPTS:
        return ["a script"]
    if end == ".py" and whole in sys.stdlib_module_names and whole != "__future__":
        return [STANDARD]
    if end in PROSE and OBEYED_FOLDERS.intersection(folders):
        return ["a text that agents may take as instructions"]
    if end in PROSE or end in SOURCE or (not end and whole in BARE):
        return []
    return ["a kind of file that is not known to be only text or source code"]
