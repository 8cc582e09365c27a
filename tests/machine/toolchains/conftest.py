"""A made-up person's home with what version managers keep there. Nothing of it runs: detection only reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from peer.machine.toolchains.detect import detect
from peer.machine.toolchains.installed import Machine
from peer.machine.toolchains.values import Found


@dataclass(frozen=True)
class Home:
    """`home` of the person, and a `project` in it."""

    home: Path
    project: Path

    def installed(self, place: str, *programs: str) -> Path:
        """Lay out a toolchain below the home folder, with configuration that nobody is to see."""
        root = self.home / place
        (root / "bin").mkdir(parents=True)
        (root / "lib").mkdir()
        (root / "etc").mkdir()
        (root / "etc/npmrc").write_text("_authToken=secret")
        for name in programs:
            (root / "bin" / name).write_bytes(b"\x7fELF")
            (root / "bin" / name).chmod(0o755)
        return root

    def file(self, name: str, text: str = "") -> Path:
        """Write a file of the project."""
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def machine(self, **env: str) -> Machine:
        return Machine(self.home, env, (self.home / ".dispatch",))

    def find(self, *wanted: str, **env: str) -> Found:
        """What a run in the project sees. No Homebrew or Nix of this machine."""
        return detect([self.project], wanted or ("auto",), self.machine(**env), found_prefixes=lambda _: iter(()))


@pytest.fixture
def bob(tmp_path: Path) -> Home:
    home = tmp_path.resolve() / "home/bob"
    (home / "code/shop").mkdir(parents=True)
    return Home(home, home / "code/shop")
