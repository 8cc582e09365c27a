"""Where the repository of a project lies that is a linked worktree or a submodule, if it lies elsewhere.

`.git` is then a file that names a folder, and a project's file must not name what a run sees. So the folder counts only
if it names the project in turn: git wrote both when the worktree or submodule was made, and whoever writes into the
project alone cannot write there. It must have the project's owner, and be one that may be granted by itself. Only
looks, runs no program; blocking.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from peer.machine.plain_file import read_plain
from peer.protocol.errors import DispatchError
from peer.trust import paths
from peer.trust.scopes import within

_SMALL: Final = 8_192
"""Bytes of a file that holds a path."""
_SETTINGS: Final = 1_000_000
"""Bytes of a repository's `config`."""
_SECTION: Final = re.compile(r'\s*\[\s*([A-Za-z0-9.-]+)\s*(?:"(?:[^"\\]|\\.)*")?\s*\]')
_WORKTREE: Final = re.compile(r"\s*worktree\s*=\s*(.*?)\s*", re.IGNORECASE)


class GitFolder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A repository's own folder as it was when it was granted: its real path, device and inode."""

    path: str
    device: int
    inode: int


class _NoPair(Exception):
    """The two do not name each other. Its text says why, as the end of a sentence."""


def find(folder: str, facts: paths.Facts) -> tuple[GitFolder | None, str]:
    """Return the repository's folder of the project `folder` (real, absolute), or None and why a run gets none.

    Both are nothing for a project whose repository lies in it, or that has none.
    """
    dot_git = Path(folder, ".git")
    try:
        if not stat.S_ISREG(dot_git.lstat().st_mode):
            return None, ""
    except OSError:
        return None, ""
    try:
        git_dir = _real(folder, _content(dot_git, _SMALL), "gitdir:")
        if within(str(git_dir), (folder,)):
            return None, ""
        common = _of_worktree(git_dir, dot_git) if (git_dir / "commondir").exists() else _of_submodule(git_dir, folder)
        return _granted(common, git_dir, folder, facts), ""
    except (OSError, ValueError):
        return None, "its `.git` names a folder that cannot be read"
    except _NoPair as why:
        return None, str(why)
    except DispatchError as error:
        return None, error.message


def find_all(folders: Iterable[str], facts: paths.Facts) -> dict[str, GitFolder]:
    """Return the repositories' folders of these projects, by project, without those that a run gets none of."""
    found = {folder: find(folder, facts)[0] for folder in folders}
    return {folder: git_folder for folder, git_folder in found.items() if git_folder is not None}


def fitting(pinned: Mapping[str, GitFolder], facts: paths.Facts) -> tuple[dict[str, str], list[str]]:
    """Return project → repository's folder of the pins that still fit, and a sentence for each other one."""
    fits: dict[str, str] = {}
    sentences = []
    for folder, pin in pinned.items():
        found, why = find(folder, facts)
        if found == pin:
            fits[folder] = pin.path
        else:
            why = why or "it has changed since it was granted"
            sentences.append(f"git will not work in {folder}: a run cannot see its repository, {pin.path}: {why}")
    return fits, sentences


def _of_worktree(git_dir: Path, dot_git: Path) -> Path:
    """The folder that all worktrees of a repository share. Raises _NoPair, OSError, ValueError."""
    common = _real(str(git_dir), _content(git_dir / "commondir", _SMALL))
    if git_dir.parent != common / "worktrees":
        raise _NoPair(f"{git_dir} is not a worktree of {common}")
    if _named(str(git_dir), _content(git_dir / "gitdir", _SMALL)) != dot_git:
        raise _NoPair(f"the repository {common} has no worktree there (`git worktree repair` fixes that)")
    return common


def _of_submodule(git_dir: Path, folder: str) -> Path:
    """The folder of a submodule's repository. Raises _NoPair, OSError, ValueError."""
    named = ""
    section = ""
    for line in _content(git_dir / "config", _SETTINGS).splitlines():
        header = _SECTION.match(line)
        section = section if header is None else header[1].lower()
        found = _WORKTREE.fullmatch(line if header is None else line[header.end() :])
        if section == "core" and found is not None:
            named = found[1].replace('"', "")
    if not named or str(_real(str(git_dir), named)) != folder:
        raise _NoPair(f"the repository {git_dir} does not name this project as its worktree")
    return git_dir


def _granted(common: Path, git_dir: Path, folder: str, facts: paths.Facts) -> GitFolder:
    """Raises DispatchError for what may never be granted; _NoPair, OSError."""
    if not all((common / part).exists() for part in ("HEAD", "objects", "refs")):
        raise _NoPair(f"{common} is not a repository")
    owners = {each.stat().st_uid for each in (common, git_dir, Path(folder))}
    if len(owners) > 1:
        raise _NoPair(f"another user owns the repository {common}")
    if within(folder, (str(common),)):
        raise _NoPair(f"the project is inside its repository's own folder, {common}")
    root = paths.check_root(str(common), facts)
    about = common.stat()
    return GitFolder(path=root, device=about.st_dev, inode=about.st_ino)


def _content(path: Path, limit: int) -> str:
    """What a file says. Raises OSError, ValueError, DispatchError."""
    if path.is_symlink():
        raise OSError
    return os.fsdecode(read_plain(path, limit=limit))


def _named(start: str, text: str, word: str = "") -> Path:
    """The path in a file of git's, of which `start` is the folder that a relative one starts from."""
    line = text.removesuffix("\n").removeprefix(word)
    named = line.lstrip() if word else line
    if not named or "\n" in named:
        raise ValueError
    whole = Path(os.path.normpath(os.path.join(start, named)))  # noqa: PTH118 - a relative one has `..`
    return Path(os.path.realpath(whole.parent), whole.name)


def _real(start: str, text: str, word: str = "") -> Path:
    return Path(os.path.realpath(_named(start, text, word)))
