"""A change set: what a run changed in the person's folders, as values. Read by freeze.py, placed by `peer.landing`.

It is stored as JSON; its digest is the SHA-256 of those bytes. Paths are bytes, since a run may use any name (in JSON
they are base64).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from sandbox.commits.values import Branch
from sandbox.views.record import ViewRecord

CHANGE_SET: Final = "changes.json"
PATCH: Final = "changes.diff"
"""The same as a patch for the sender, where there is anything to show."""
BLOBS: Final = "blobs"
"""The folder beside it: one file a content, named by its SHA-256 in hex."""

HEADS: Final = b"/refs/heads"
"""What the path of an entry of commits ends with, after that of the repository's `.git`."""

Natural = Annotated[int, msgspec.Meta(ge=0)]
Kind = Literal["file", "link", "folder", "other"]


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    pass


class Base(_Value, frozen=True, kw_only=True):
    """What the person's folder held at a path when the run had ended.

    `mode`: permission bits (07777). `sha256`: hex, of a file. `target`: of a link. `device`, `inode` and `changed_ns`
    (time of change) tell whether it is still the same.
    """

    kind: Kind
    mode: Natural
    size: Natural = 0
    sha256: str = ""
    target: bytes = b""
    device: int
    inode: int
    changed_ns: int


class Entry(_Value, frozen=True, kw_only=True):
    """One change.

    `number`: its place in the list. `view`: number of the view. `path`: relative to the view's root, components
    separated by one slash; b"" is a granted file itself. `change`:

    - `added`, `changed`, `deleted`: of a file or a link; a folder only when it is added or deleted empty of anything
      else in this list (what was in a deleted folder has entries of its own before it).
    - `mode`: only the permission to execute changed.
    - `renamed`: the content of `renamed_from` (of the same view, gone) at another path, where nothing was: `base` is
      None. What is at `renamed_from` has this content and permission to execute. The content is a blob, too.
    - `folded`: a folder that tools fill; `count` files of `size` bytes altogether. Its content is not kept.
    - `commits`: `count` commits that the run made in the repository whose `.git` (`base`) is two names above `path`;
      in a view that is a repository's own folder, that is the view.
      `sha256`, `size`: of a pack with all that `branches` reach and the original did not. It becomes refs of that
      repository, never files. `text`: SHA-256 of each commit's message and diff.
    - `dropped`: it is never put in place, `never` says why (a repository's own files, a device).
    - `unread`: it could not be read, `never` says why.

    `executable`, `size`, `sha256`, `target` describe what the run left. `base`: what the person's folder holds there,
    None for nothing. `marks`: why it is put in place only if the person chooses it by itself; empty: unmarked.
    `conflict`: why the original must have changed since the view was made; "" if it has not.
    """

    number: Natural
    view: Natural
    path: bytes
    change: Literal["added", "changed", "deleted", "mode", "renamed", "commits", "folded", "dropped", "unread"]
    kind: Kind = "file"
    executable: bool = False
    size: Natural = 0
    sha256: str = ""
    target: bytes = b""
    base: Base | None = None
    renamed_from: bytes = b""
    count: Natural = 1
    marks: list[str] = []
    conflict: str = ""
    never: str = ""
    branches: list[Branch] = []
    text: str = ""

    @property
    def can_land(self) -> bool:
        """Whether it can be put in place at all."""
        return not self.never and not self.conflict and self.change != "folded"


class ChangeSet(_Value, frozen=True, kw_only=True):
    """All changes of one run. `incomplete`: sentences about what could not be looked at; such a set lacks entries."""

    views: list[ViewRecord]
    entries: list[Entry]
    incomplete: list[str] = []
