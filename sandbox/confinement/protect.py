"""Names inside a writable folder that make the host run something later: which they are, and where they
are now. Pure scan, no mounts.

Each is pinned by a read-only bind of its own. A mount point cannot be renamed or removed, so `mv .git g2;
cp -r g2 .git` fails too. All of `.git` is read-only, not only its config and hooks: a new `.git/commondir`
would redirect both.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

# Folders whose content an editor, git or an agent executes or obeys on the host.
FOLDERS = frozenset({".git", ".claude", ".vscode", ".idea", ".devcontainer", ".husky"})
FILES = frozenset(
    [
        ".mcp.json",
        ".gitmodules",
        ".gitconfig",
        ".envrc",
        ".bashrc",
        ".bash_profile",
        ".bash_login",
        ".bash_logout",
        ".profile",
        ".zshrc",
        ".zshenv",
        ".zprofile",
        ".zlogin",
        ".ripgreprc",
        ".tool-versions",
        ".mise.toml",
    ]
)
NAMES = FOLDERS | FILES
# Made, empty, at the top of a writable folder for the time of a run where missing, so that the name cannot
# be taken.
PLACEHOLDER_FOLDERS = (".git", ".claude", ".vscode", ".idea")
# HEAD is what git goes by: a folder with HEAD, objects and refs is a repository without any `.git`.
HEAD = "HEAD"
PLACEHOLDER_FILES = {".mcp.json": b'{"mcpServers":{}}\n', HEAD: b""}

# About two seconds of walking; beyond it nobody can say what the folder holds.
MAX_ENTRIES = 400_000
# Every pin is a mount, and bwrap re-reads the mount table for each.
MAX_PINS = 256


@dataclass(frozen=True, slots=True)
class Pin:
    """One thing that gets a mount of its own.

    ``path``: relative to the root it lies in. ``writable``: a folder on the way to a protected name, which must not
    be renamed away from above it.
    """

    path: Path
    writable: bool = False


def scan(root: Path, *, max_entries: int = MAX_ENTRIES, max_pins: int = MAX_PINS) -> tuple[Pin, ...]:
    """Every protected name and every bare repository below ``root``, at any depth, compared without case; what
    lies inside one is not looked at.

    Raises SandboxError 403 when a protected name is a symbolic link (it could be swapped under the pin) or
    ``root`` is a bare repository itself, and 413 when the folder is too large to look through.
    """
    pins: list[Pin] = []
    seen = 0
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            if folder == root:
                raise
            continue  # what we cannot list, the run, having the same user, cannot list either
        seen += len(entries)
        if seen > max_entries:
            raise SandboxError(
                f"{root} holds more than {max_entries} files, too many to protect its repositories",
                fix="grant a narrower folder",
                code=413,
            )
        if _bare_repository({entry.name.casefold() for entry in entries}):
            if folder == root:
                raise SandboxError(
                    f"{root} is a bare git repository, whose hooks a run that writes could change",
                    fix="grant a clone of it, or grant it without Write, Edit and Bash",
                    code=403,
                )
            pins.append(Pin(folder.relative_to(root)))
            continue
        for entry in entries:
            protected = entry.name.casefold() in NAMES
            if protected and entry.is_symlink():
                raise SandboxError(
                    f"{entry.path} is a symbolic link, so it cannot be protected from the run",
                    fix="replace the link by what it points to, or grant a folder without it",
                    code=403,
                )
            is_folder = entry.is_dir(follow_symlinks=False)
            if protected and (is_folder or entry.is_file(follow_symlinks=False)):
                pins.append(Pin(Path(entry.path).relative_to(root)))
            elif is_folder:
                waiting.append(Path(entry.path))
    above = {parent for pin in pins for parent in pin.path.parents if parent.parts}
    pins += [Pin(parent, writable=True) for parent in above]
    if len(pins) > max_pins:
        raise SandboxError(
            f"{root} holds {len(pins)} repositories and settings folders; {max_pins} can be protected",
            fix="grant a narrower folder",
            code=413,
        )
    return tuple(sorted(pins, key=lambda pin: pin.path.parts))  # what lies above comes first


def _bare_repository(names: set[str]) -> bool:
    """Whether git might take a folder with these (case-folded) names for a repository and obey its config."""
    return "head" in names and ({"objects", "refs"} <= names or "commondir" in names)


def planted(root: Path, before: tuple[Pin, ...]) -> tuple[Path, ...]:
    """Protected names and repositories below ``root`` that were not there ``before`` the run, relative to it: what a
    person should be told of.

    Nothing can stop a run that may write a folder from making a new repository inside it.
    """
    known = {pin.path for pin in before}
    now = scan(root, max_pins=MAX_ENTRIES)
    return tuple(pin.path for pin in now if not pin.writable and pin.path not in known)
