"""What of a folder will not work inside the sandbox, for its person to know before an accept. Only looks; blocking.

Inside, the folder stands at its own path, and nothing around it exists but the system's programs. So a tool that names
an interpreter or a library elsewhere does not start. Whether git finds a repository that lies elsewhere is
peer.projects.git_folders'. What a run may see is not decided here, and what is not found here may still not work.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

_ENTRIES: Final = 200
"""The most entries of one folder that are looked at."""
_SHEBANG: Final = 256
"""Bytes of a first line that the kernel reads (execve(2))."""
_SMALL: Final = 4096
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
"""What a run sees under the same path."""
_TOOLS: Final = ("bin", ".bin")


def obstacles(folder: Path) -> list[str]:
    """Return sentences about what will not work in `folder` (absolute, real), none for nothing that was found."""
    return [*_git(folder), *_tools(folder)]


def _git(folder: Path) -> Iterator[str]:
    found = next((place for place in (folder, *folder.parents) if os.path.lexists(place / ".git")), None)
    if found is None:
        return
    if found != folder:
        yield f"git will not work: the repository is that of {found}, of which a run here sees only this folder"
        return
    if any(line.startswith("/") for line in _text(folder / ".git/objects/info/alternates", _SMALL).splitlines()):
        yield "git may not work: the repository borrows objects from another one"


def _tools(folder: Path) -> Iterator[str]:
    for place in (folder, *(folder / name for name in _names(folder))):
        for tools in (place / name for name in _TOOLS):
            broken = [name for name in _names(tools) if not _starts(tools / name, folder)]
            if broken:
                more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
                name = f"{tools.relative_to(folder)}/{broken[0]}{more}"
                yield f"{name} will not start: what they name by its whole path is not there in a run"
        if (place / "pyvenv.cfg").is_file():
            yield from _installed_in_place(place, folder)


def _installed_in_place(environment: Path, folder: Path) -> Iterator[str]:
    for python in _names(environment / "lib"):
        packages = environment / "lib" / python / "site-packages"
        for name in _names(packages):
            lines = _text(packages / name, _SMALL).splitlines() if name.endswith(".pth") else []
            if any(line.startswith("/") and not _there(line, folder) for line in lines):
                where = environment.relative_to(folder)
                yield f"packages of {where} that are installed in place will not be found ({name})"
                return


def _starts(program: Path, folder: Path) -> bool:
    """Whether a program's interpreter, or what it is a link to, is there inside. True for what is no program."""
    try:
        about = program.lstat()
        if stat.S_ISLNK(about.st_mode):
            target = str(program.readlink())
            return _there(target, folder) if target.startswith("/") else _inside(program.parent / target, folder)
        if not stat.S_ISREG(about.st_mode) or not about.st_mode & 0o111:
            return True
    except OSError:
        return True
    first = _text(program, _SHEBANG).partition("\n")[0]
    words = first[2:].split() if first.startswith("#!") else []
    return not words or not words[0].startswith("/") or _there(words[0], folder)


def _there(path: str, folder: Path) -> bool:
    return _system(path) or Path(os.path.normpath(path)).is_relative_to(folder)


def _system(path: str) -> bool:
    return any(Path(os.path.normpath(path)).is_relative_to(known) for known in _SYSTEM)


def _inside(path: Path, folder: Path) -> bool:
    try:
        real = Path(os.path.realpath(path))
    except ValueError:  # a NUL in what a file names
        return False
    return real.is_relative_to(folder) or _system(str(real))


def _names(folder: Path) -> list[str]:
    """Some names in a folder, sorted; none for what is no folder (a link is none)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return []
    try:
        with os.scandir(descriptor) as entries:
            return sorted(entry.name for entry in islice(entries, _ENTRIES))
    except OSError:
        return []
    finally:
        os.close(descriptor)


def _text(path: Path, most: int) -> str:
    """The beginning of a plain file, '' for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.read(descriptor, most).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)
