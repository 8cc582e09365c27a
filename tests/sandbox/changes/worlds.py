"""A run's folder with one view, as dp-agent leaves it: a real overlay of the kernel, or a copy with its manifest."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from sandbox.changes.__main__ import written
from sandbox.changes.values import ChangeSet, Entry
from sandbox.views.copy import Allowance, copy
from sandbox.views.manifest import Copied, ManifestWriter, kind_of
from sandbox.views.record import RECORDS, ViewRecord, ViewRecords
from tests.conftest import HANG

Kind = Literal["overlay", "copy"]


@dataclass
class World:
    """The person's folder `root`, and the view of it that a run works in."""

    folder: Path
    root: Path
    kind: Kind
    namespace: tuple[str, ...] = ("unshare", "--mount")
    record: ViewRecord | None = None

    @property
    def run_folder(self) -> Path:
        return self.folder / "run"

    @property
    def view(self) -> Path:
        return self.run_folder / "views/0"

    @property
    def work(self) -> Path:
        """What the run works in; of an overlay, only inside `run`."""
        return self.view / ("merged" if self.kind == "overlay" else "copy")

    def start(self, *, skip: frozenset[bytes] = frozenset()) -> None:
        """Make the view. Of a copy, `skip` is left out."""
        self.view.mkdir(parents=True)
        about = self.root.stat()
        if self.kind == "overlay":
            for name in ("upper", "work", "merged"):
                (self.view / name).mkdir()
        else:
            self._copy(skip)
        self.record = ViewRecord(
            number=0,
            root=str(self.root),
            inside="/project",
            kind=self.kind,
            device=about.st_dev,
            inode=about.st_ino,
            made_ns=self.tick(),
        )
        self.rewrite(self.record)

    def rewrite(self, record: ViewRecord) -> None:
        """Write the record of the view down."""
        (self.run_folder / "views" / RECORDS).write_bytes(msgspec.json.encode(ViewRecords(views=[record])))

    def tick(self) -> int:
        """Return the time of change of a new file, later than that of all that was made before."""
        probe = self.folder / "probe"
        probe.write_bytes(b"")
        before = probe.stat().st_ctime_ns
        while True:
            probe.chmod(0o600)
            if (now := probe.stat().st_ctime_ns) > before:
                return now

    def run(self, script: str) -> None:
        """Run a shell script in the view."""
        if self.kind == "overlay":
            layers = f"lowerdir={self.root},upperdir={self.view}/upper,workdir={self.view}/work,userxattr"
            script = f"mount -t overlay -o {layers} overlay {self.work}\ncd {shlex.quote(str(self.work))}\n{script}"
            command = [*self.namespace, "sh", "-ec", script]
        else:
            command = ["sh", "-ec", f"cd {shlex.quote(str(self.work))}\n{script}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG)
        assert done.returncode == 0, done.stderr

    def python(self, code: str) -> None:
        """Run Python in the view."""
        self.run(f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}")

    def read(self) -> ChangeSet:
        """Read the change set as the program does, into a new folder."""
        shutil.rmtree(self.destination, ignore_errors=True)
        return msgspec.json.decode(written(self.run_folder, self.destination), type=ChangeSet)

    @property
    def destination(self) -> Path:
        return self.folder / "changes"

    def entries(self) -> dict[str, Entry]:
        """Read the change set; its entries by path, of which none comes twice."""
        found = self.read()
        assert not found.incomplete
        by_path = {os.fsdecode(entry.path): entry for entry in found.entries}
        assert len(by_path) == len(found.entries)
        return by_path

    def blob(self, entry: Entry) -> bytes:
        """The content that was kept of an entry."""
        return (self.destination / "blobs" / entry.sha256).read_bytes()

    def _copy(self, skip: frozenset[bytes]) -> None:
        if not skip:
            original = os.open(self.root, os.O_PATH)
            copy(original, self.view, "project", Allowance(reserve=0))
            os.close(original)
            return
        shutil.copytree(self.root, self.work, symlinks=True, ignore=lambda at, names: self._left_out(at, names, skip))
        with ManifestWriter(self.view / "manifest") as manifest:
            for path in [self.root, *sorted(self.root.rglob("*"))]:
                relative = path.relative_to(self.root)
                name = os.fsencode(relative) if relative.parts else b""
                if any(os.fsencode(parent) in skip for parent in relative.parents):
                    continue
                manifest.add(self._copied(path, name, name in skip))
            manifest.finish()

    def _left_out(self, at: str, names: list[str], skip: frozenset[bytes]) -> set[str]:
        inside = Path(at).relative_to(self.root)
        return {name for name in names if os.fsencode(inside / name) in skip}

    def _copied(self, path: Path, name: bytes, skipped: bool) -> Copied:
        about = path.lstat()
        kind = kind_of(about)
        copy = None if skipped or kind == "folder" else (self.work / os.fsdecode(name) if name else self.work).lstat()
        return Copied(
            path=name,
            kind=kind,
            mode=stat.S_IMODE(about.st_mode),
            size=about.st_size if kind == "file" else 0,
            target=os.fsencode(path.readlink()) if kind == "link" else b"",
            device=about.st_dev,
            inode=about.st_ino,
            changed_ns=about.st_ctime_ns,
            copy_inode=copy.st_ino if copy else 0,
            copy_changed_ns=copy.st_ctime_ns if copy else 0,
            skipped="too large" if skipped else "",
        )
