"""Packages of Debian's and Ubuntu's archives, got by apt in a folder of its own.

apt verifies a suite's Release with the archive's keyring, the index with the Release, and each package with the index.
Nothing of this machine's package state is touched.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.kernels.table import DEBIAN, Archive

SECONDS = 600
_KERNEL = re.compile(r"linux-(?:image|modules|modules-extra)-\d")


class Packages:
    """The packages of some suites of one archive. `folder` keeps what was downloaded."""

    def __init__(self, folder: Path, archive: Archive, suites: Sequence[str]) -> None:
        self._folder = folder / f"{archive.name}-{'-'.join(suites)}"
        for name in ("state/lists/partial", "cache/archives/partial", "etc"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        signed_by, url = keyring(folder, archive), mirror(archive)
        (self._folder / "sources.list").write_text(
            "".join(f"deb [signed-by={signed_by}] {url} {suite} {archive.components}\n" for suite in suites)
        )
        (self._folder / "status").touch()

    def update(self) -> None:
        self._apt("apt-get", "update")

    def kernel(self, package: str) -> tuple[str, ...]:
        """The packages with the newest kernel's image and modules, on which the meta package `package` depends."""
        found: list[str] = []
        asked = [package]
        while asked:
            asking = asked.pop()
            for line in self._apt("apt-cache", "depends", "--important", asking).splitlines():
                kind, _, name = line.strip().partition(": ")
                if kind in ("Depends", "PreDepends") and _KERNEL.match(name) and name not in found:
                    found.append(name)
                    asked.append(name)
        if not found:
            raise SystemExit(f"{package} of {self._folder.name} depends on no kernel")
        image = next(name for name in found if name.startswith("linux-image-"))
        extra = image.replace("linux-image-", "linux-modules-extra-")  # Ubuntu's meta package asks for it elsewhere
        if self._apt("apt-cache", "pkgnames", extra).strip():
            found.append(extra)
        return tuple(dict.fromkeys(found))

    def download(self, names: Sequence[str]) -> list[Path]:
        """The .deb files of these packages."""
        into = self._folder / "debs"
        into.mkdir(exist_ok=True)
        self._apt("apt-get", "download", *names, cwd=into)
        files = [max(into.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime) for name in names]
        return sorted(files)

    def _apt(self, program: str, *words: str, cwd: Path | None = None) -> str:
        options = {
            "Dir::State": f"{self._folder}/state",
            "Dir::State::status": f"{self._folder}/status",
            "Dir::Cache": f"{self._folder}/cache",
            "Dir::Etc::SourceList": f"{self._folder}/sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        command = [program, "-qq", *(f"-o{name}={value}" for name, value in options.items()), *words]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{program} {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout


def mirror(archive: Archive) -> str:
    """Where the archive is: what its variable says, else where this machine has its own packages from."""
    if named := os.environ.get(archive.mirror):
        return named
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(SITE)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    origins = dict(line.lower().split(" ", 1) for line in reversed(done.stdout.splitlines()) if " " in line)
    site = origins.get(archive.name, "")
    if not site.rstrip("/").endswith(f"/{archive.name}"):
        raise SystemExit(f"name a mirror of {archive.name}'s archive: {archive.mirror}=http://…/{archive.name}")
    return site


def keyring(folder: Path, archive: Archive) -> str:
    """This machine's keyring of the archive; where it has none for Ubuntu's, the one that Debian's archive signs."""
    if Path(archive.keyring).exists():
        return archive.keyring
    if archive is DEBIAN:
        raise SystemExit(f"there is no {archive.keyring}: apt install debian-archive-keyring")
    here = folder / "keyrings"
    if not (found := here / archive.keyring.lstrip("/")).exists():
        packages = Packages(folder, DEBIAN, ("trixie",))
        packages.update()
        (file,) = packages.download(["ubuntu-keyring"])
        subprocess.run(["dpkg-deb", "-x", str(file), str(here)], check=True, timeout=SECONDS)
    return str(found)
