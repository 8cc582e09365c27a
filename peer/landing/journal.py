"""What a landing writes down so that a crash at any moment can be finished or taken back. No file of a person's here.

In its folder:
    plan.json       `Plan`: every step with all that taking it back needs. Written before anything of it is visible
    placed.json     `Identities` of what was staged. Without it no step has been made
    committed       with it the landing has happened, and is finished after a crash; without it, it is taken back
    old-N           what stood where step N put something, or took it away
    undo.json       `Taken`: the steps that an undo takes back, while it is under way
    staged.json     `Identities` of what it staged; without it none of them is taken back yet
    undone.json     `Taken`: the steps that were taken back
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

PLAN: Final = "plan.json"
PLACED: Final = "placed.json"
COMMITTED: Final = "committed"
UNDO: Final = "undo.json"
STAGED: Final = "staged.json"
UNDONE: Final = "undone.json"

Parts = tuple[bytes, ...]
Identity = tuple[int, int]
"""Device and inode."""


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    pass


class State(_Value, frozen=True, kw_only=True):
    """What is at a place: kind, permission bits (0777), and size and SHA-256 in hex of a file or target of a link."""

    kind: Literal["file", "link", "folder"]
    mode: int = 0
    size: int = 0
    sha256: str = ""
    target: bytes = b""

    @property
    def executable(self) -> bool:
        """Whether its owner may execute it, which is all that is compared of permissions."""
        return bool(self.mode & stat.S_IXUSR)


class Root(_Value, frozen=True, kw_only=True):
    """A folder under which steps are made: for a granted file the one that it lies in."""

    path: str
    device: int
    inode: int


class Move(_Value, frozen=True, kw_only=True):
    """One step: at `parts` below the root of `view` is `before`, then `after`; None is nothing.

    `number`: the entry that it belongs to. What comes and what goes has the name `staged` in the folder `staged_in`,
    which stays throughout. `implied`: a folder that the entry needs, and that is no entry of its own. `kept`: what was
    there is kept for undo.
    """

    number: int
    view: int
    parts: Parts
    staged: bytes
    staged_in: Parts
    before: State | None
    after: State | None
    implied: bool = False
    kept: bool = True

    @property
    def action(self) -> Literal["add", "remove", "mode", "swap"]:
        if self.before is None:
            return "add"
        if self.after is None:
            return "remove"
        same = self.before.kind == self.after.kind == "file" and self.before.sha256 == self.after.sha256
        return "mode" if same else "swap"

    @property
    def has_content(self) -> bool:
        """Whether there is a file or link that goes away."""
        return self.action in ("remove", "swap") and self.before is not None and self.before.kind != "folder"


class Commits(_Value, frozen=True, kw_only=True):
    """Commits that become refs of a repository: `refs`, by name what each names, all of them below `prefix`.

    `number`: the entry. `parts`: of the repository's `.git` below the root of `view`, which is the folder `identity`.
    `incoming`: the name of the folder among its objects through which they come. `sha256`, `size`: of the pack.
    """

    number: int
    view: int
    parts: Parts
    identity: Identity
    incoming: str
    prefix: str
    refs: dict[str, str]
    sha256: str
    size: int


class Plan(_Value, frozen=True, kw_only=True):
    """All steps of a landing, in their order: `moves`, then `commits`. `roots`: by the view's number."""

    roots: dict[int, Root]
    moves: list[Move]
    commits: list[Commits] = []


class Identities(_Value, frozen=True, kw_only=True):
    """What was staged for a step, by the step's number."""

    of: dict[int, Identity]


class Taken(_Value, frozen=True, kw_only=True):
    """Steps that are taken back."""

    steps: list[int]


_T = TypeVar("_T", Plan, Identities, Taken)


class Journal:
    """The folder of one landing, private to this user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self) -> None:
        """Make the folder. Raises OSError, FileExistsError where there is one."""
        self.folder.mkdir(mode=0o700)
        _sync(self.folder.parent)

    def discard(self) -> None:
        """Remove the folder: first what makes it a landing, so that half of it is none. Raises OSError."""
        if self.folder.exists():
            self.remove(PLAN)
            shutil.rmtree(self.folder)

    def write(self, name: str, value: msgspec.Struct | None = None) -> None:
        """Write a record, whole and synced. Raises OSError."""
        part = self.folder / f"{name}.part"
        with open(part, "wb", opener=private) as file:
            file.write(b"" if value is None else msgspec.json.encode(value))
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.folder / name)
        self.sync()

    def read(self, name: str, kind: type[_T]) -> _T | None:
        """Return a record, None if it is not there. Raises OSError, also for one that cannot be understood."""
        try:
            raw = (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.MsgspecError as error:
            raise OSError(errno.EBADMSG, f"a landing's {name} cannot be read") from error

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def remove(self, *names: str) -> None:
        """Remove records, durably. Raises OSError."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
        self.sync()

    def old(self, step: int) -> Path:
        """Return where the content is kept that a step took away."""
        return self.folder / f"old-{step}"

    def has_old(self, step: int) -> bool:
        return os.path.lexists(self.old(step))

    def sync(self) -> None:
        """Make durable which names are in the folder. Raises OSError."""
        _sync(self.folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def private(path: str, flags: int) -> int:
    """An opener for files that only this user may read."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
