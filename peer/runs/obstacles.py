"""What of a folder will not work inside the sandbox, for its person to know before an accept. Only looks; blocking.

Inside, the folder stands at its own path, and nothing around it exists but the system's programs. So a tool that names
an interpreter or a library elsewhere does not start. Whether git finds a repository that lies elsewhere is
peer.projects.git_folders'. What a run may see is not decided here, and what is not found here may still not work.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from peer.machine import looking

_SHEBANG: Final = 256
"""Bytes of a first line that the kernel reads (execve(2))."""
_SMALL: Final = 4096
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
"""What a run sees under the same path."""
_TOOLS: Final = ("bin", ".bin")


def obstacles(folder: Path, seen: Sequence[Path] = ()) -> list[str]:
    """Return sentences about what will not work in `folder` (absolute, real), none for nothing that was found.

    `seen`: what a run sees besides, under the same path: parts of toolchains.
    """
    return [*_git(folder), *_tools(folder, (*_SYSTEM, str(folder), *map(str, seen)))]


def _git(folder: Path) -> Iterator[str]:
    found = next((place for place in (folder, *folder.parents) if os.path.lexists(place / ".git")), None)
    if found is None:
        return
    if found != folder:
        yield f"git will not work: the repository is in {found}, and a run here sees only this folder"
        return
    if any(line.startswith("/") for line in _lines(folder / ".git/objects/info/alternates")):
        yield "git may not work: this repository borrows objects from another one"


def _tools(folder: Path, seen: Sequence[str]) -> Iterator[str]:
    for place in (folder, *(folder / name for name in looking.names(folder))):
        for tools in (place / name for name in _TOOLS):
            broken = [name for name in looking.names(tools) if not _starts(tools / name, folder, seen)]
            if broken:
                more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
                name = f"{tools.relative_to(folder)}/{broken[0]}{more}"
                yield f"{name} will not start: a run does not see the programs that they point to"
        if (place / "pyvenv.cfg").is_file():
            yield from _installed_in_place(place, folder, seen)


def _installed_in_place(environment: Path, folder: Path, seen: Sequence[str]) -> Iterator[str]:
    for python in looking.names(environment / "lib"):
        packages = environment / "lib" / python / "site-packages"
        for name in looking.names(packages):
            if name.endswith(".pth") and any(
                line.startswith("/") and not _there(line, seen) for line in _lines(packages / name)
            ):
                where = environment.relative_to(folder)
                yield f"packages that {where} links to elsewhere will not be found ({name})"
                return


def _starts(program: Path, folder: Path, seen: Sequence[str]) -> bool:
    """Whether a program's interpreter, or what it is a link to, is there inside. True for what is no program."""
    try:
        about = program.lstat()
        if stat.S_ISLNK(about.st_mode):
            target = str(program.readlink())
            return _there(target, seen) if target.startswith("/") else _inside(program.parent / target, folder, seen)
        if not stat.S_ISREG(about.st_mode) or not about.st_mode & 0o111:
            return True
    except OSError:
        return True
    first = looking.text(program, _SHEBANG).partition("\n")[0]
    words = first[2:].split() if first.startswith("#!") else []
    return not words or not words[0].startswith("/") or _there(words[0], seen)


def _there(path: str, seen: Sequence[str]) -> bool:
    return any(Path(os.path.normpath(path)).is_relative_to(known) for known in seen)


def _inside(path: Path, folder: Path, seen: Sequence[str] = _SYSTEM) -> bool:
    try:
        real = Path(os.path.realpath(path))
    except ValueError:  # a NUL in what a file names
        return False
    return real.is_relative_to(folder) or _there(str(real), seen)


def _lines(path: Path) -> list[str]:
    return looking.text(path, _SMALL).splitlines()
