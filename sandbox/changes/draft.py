"""An entry of a change set in the making: what the readers of views find, before its marks are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sandbox.changes.values import Base, Kind

Change = Literal["added", "changed", "deleted", "mode", "renamed", "folded", "dropped", "unread"]


@dataclass(slots=True)
class Draft:
    """The fields of Entry, and what decides about its marks.

    `plain`: old and new content, as far as there are any, are text that can be shown whole. `repository`: it lies in a
    folder that is a repository without `.git`. `nested`: another repository lies between it and the root. `askable`:
    version control can be asked about it (no link or file is where its folder is to be). `notes`: reasons for a mark
    that only the reader knows.
    """

    path: bytes
    change: Change
    kind: Kind
    executable: bool = False
    size: int = 0
    sha256: str = ""
    target: bytes = b""
    base: Base | None = None
    renamed_from: bytes = b""
    count: int = 1
    conflict: str = ""
    never: str = ""
    plain: bool = False
    repository: bool = False
    nested: bool = False
    askable: bool = True
    notes: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
