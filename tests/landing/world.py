"""A person's folder, and changes of a run in it, as the engine is given them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peer.landing.engine import Forecast, Refusal, apply, dry_run, resume, undo
from sandbox.changes.values import BLOBS, Base, Entry, Kind
from sandbox.views.record import ViewRecord

NAMESPACE = "4e5f6a7b-0000-4000-8000-000000000000"
"""Of the refs of commits."""

Snapshot = dict[str, tuple[Any, ...]]


class World:
    """`root` is the granted folder; `folder` the change set's; `journal` the landing's."""

    def __init__(self, top: Path, *, root: Path | None = None, journal: Path | None = None) -> None:
        self.root = root or top / "project"
        self.folder = top / "changes"
        self.journal = journal or self.folder / "landing-1"
        self.root.mkdir(exist_ok=True)
        (self.folder / BLOBS).mkdir(parents=True)
        self.entries: list[Entry] = []
        about = self.root.stat()
        self.views = {1: self.view(1, self.root, about)}

    def view(self, number: int, root: Path, about: os.stat_result) -> ViewRecord:
        return ViewRecord(
            number=number,
            root=str(root),
            inside="/project",
            kind="overlay",
            device=about.st_dev,
            inode=about.st_ino,
            made_ns=0,
        )

    def put(self, path: str, content: bytes = b"old", mode: int = 0o644) -> Path:
        """Write a file of the person's."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)
        return file

    def blob(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        (self.folder / BLOBS / digest).write_bytes(content)
        return digest

    def base(self, path: str | bytes) -> Base | None:
        """Return what is there now, as the end of a run sees it."""
        return base_of(self.root / os.fsdecode(path))

    def note(self, change: Any, path: str | bytes, **about: Any) -> Entry:
        """Add an entry whose base is what is there now."""
        name = os.fsencode(path)
        if "base" not in about:
            about["base"] = self.base(name)
        about.setdefault("view", 1)
        entry = Entry(number=len(self.entries), path=name, change=change, **about)
        self.entries.append(entry)
        return entry

    def add(self, path: str | bytes, content: bytes = b"new", *, executable: bool = False, **about: Any) -> Entry:
        digest = self.blob(content)
        return self.note("added", path, sha256=digest, size=len(content), executable=executable, **about)

    def change(self, path: str | bytes, content: bytes = b"new", **about: Any) -> Entry:
        base = about.get("base") or self.base(path)
        about.setdefault("executable", base is not None and bool(base.mode & 0o111))
        return self.note("changed", path, sha256=self.blob(content), size=len(content), **about)

    def delete(self, path: str | bytes, **about: Any) -> Entry:
        base = self.base(path)
        return self.note("deleted", path, kind=base.kind if base else "file", **about)

    def rename(self, old: str, new: str, content: bytes, **about: Any) -> Entry:
        return self.note(
            "renamed", new, renamed_from=old.encode(), sha256=self.blob(content), size=len(content), **about
        )

    def link(self, path: str, target: bytes, change: str = "added", **about: Any) -> Entry:
        return self.note(change, path, kind="link", target=target, **about)

    def add_folder(self, path: str) -> Entry:
        return self.note("added", path, kind="folder")

    def set_mode(self, path: str, *, executable: bool) -> Entry:
        base = self.base(path)
        assert base is not None
        return self.note("mode", path, executable=executable, sha256=base.sha256, size=base.size)

    def apply(self, chosen: Sequence[Entry] | None = None) -> list[Refusal]:
        return apply(self.folder, self._chosen(chosen), self.views, self.journal, namespace=NAMESPACE)

    def dry_run(self, chosen: Sequence[Entry] | None = None) -> Forecast:
        return dry_run(self.folder, self._chosen(chosen), self.views, namespace=NAMESPACE)

    def _chosen(self, chosen: Sequence[Entry] | None) -> Sequence[Entry]:
        return self.entries if chosen is None else chosen

    def resume(self) -> str:
        return resume(self.journal)

    def undo(self) -> list[Refusal]:
        return undo(self.journal)

    def look(self) -> Snapshot:
        return look(self.root)

    def is_refused_whole(self, *numbers: int) -> list[str]:
        """Apply; check that nothing was changed and that exactly these entries (all by default) were refused."""
        before = self.look()
        refused = self.apply()
        assert sorted({each.number for each in refused}) == sorted(numbers or range(len(self.entries)))
        assert self.look() == before
        assert not self.journal.exists()
        return [each.reason for each in refused]


def base_of(path: Path) -> Base | None:
    try:
        about = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    mode = about.st_mode
    kind: Kind = "other"
    size, digest, target = 0, "", b""
    if stat.S_ISREG(mode):
        kind, size, digest = "file", about.st_size, hashlib.sha256(path.read_bytes()).hexdigest()
    elif stat.S_ISLNK(mode):
        kind, target = "link", os.fsencode(path.readlink())
    elif stat.S_ISDIR(mode):
        kind = "folder"
    return Base(
        kind=kind,
        mode=stat.S_IMODE(mode),
        size=size,
        sha256=digest,
        target=target,
        device=about.st_dev,
        inode=about.st_ino,
        changed_ns=about.st_ctime_ns,
    )


def look(root: Path) -> Snapshot:
    """Everything below a folder: kinds, contents, permissions of files."""
    found: Snapshot = {}
    for path in root.rglob("*"):
        about = path.lstat()
        key = str(path.relative_to(root))
        if stat.S_ISLNK(about.st_mode):
            found[key] = ("link", os.fsencode(path.readlink()))
        elif stat.S_ISDIR(about.st_mode):
            found[key] = ("folder",)
        elif stat.S_ISREG(about.st_mode):
            found[key] = ("file", stat.S_IMODE(about.st_mode), path.read_bytes())
        else:
            found[key] = ("other",)
    return found


def many_changes(world: World) -> None:
    """A bit of everything that can be put in place, whose order matters."""
    world.put("changed.txt", b"one", 0o640)
    world.put("tool", b"#!/bin/sh\n", 0o755)
    world.put("plain", b"plain")
    world.put("gone.txt")
    world.put("old/name.txt", b"same")
    world.put("pack/a/b.txt", b"b")
    world.put("pack/c.txt", b"c")
    world.put("turned/inner.txt", b"i")
    world.put("was_file", b"f")
    (world.root / "pointer").symlink_to("plain")
    world.change("changed.txt", b"two")
    world.change("tool", b"#!/bin/bash\n")
    world.set_mode("plain", executable=True)
    world.delete("gone.txt")
    world.rename("old/name.txt", "new/place/name.txt", b"same")
    world.delete("pack/a/b.txt")
    world.delete("pack/c.txt")
    world.delete("pack/a")
    world.delete("pack")
    world.delete("turned/inner.txt")
    world.change("turned", b"a file now", kind="file", executable=False)
    world.note("changed", "was_file", kind="folder")
    world.add("was_file/in/it.txt", b"it")
    world.link("pointer", b"tool", "changed")
    world.link("fresh", b"new/place")
    world.add("added/run", b"#!/bin/sh\n", executable=True)
    world.add_folder("empty/folder")


def wanted_of_many(before: Snapshot) -> Snapshot:
    """What `many_changes` asks for."""
    after = dict(before)
    for gone in (
        "gone.txt",
        "old/name.txt",
        "pack",
        "pack/a",
        "pack/a/b.txt",
        "pack/c.txt",
        "turned/inner.txt",
    ):
        del after[gone]
    return after | {
        "changed.txt": ("file", 0o640, b"two"),
        "tool": ("file", 0o755, b"#!/bin/bash\n"),
        "plain": ("file", 0o755, b"plain"),
        "new": ("folder",),
        "new/place": ("folder",),
        "new/place/name.txt": ("file", 0o644, b"same"),
        "turned": ("file", 0o644, b"a file now"),
        "was_file": ("folder",),
        "was_file/in": ("folder",),
        "was_file/in/it.txt": ("file", 0o644, b"it"),
        "pointer": ("link", b"tool"),
        "fresh": ("link", b"new/place"),
        "added": ("folder",),
        "added/run": ("file", 0o755, b"#!/bin/sh\n"),
        "empty": ("folder",),
        "empty/folder": ("folder",),
    }
