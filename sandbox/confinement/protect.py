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
from typing import Literal

from sandbox.confinement.walk import walk
from sandbox.errors import SandboxError

# Held by an empty thing of ours at the top of a writable folder for the time of a run where missing, so that the name
# cannot be taken. Git, editors, agents and package tools act on these by themselves, as soon as somebody works in the
# folder. Each costs the start of a run half a millisecond (a mount): what is obeyed elsewhere alone is not among them.
HELD_FOLDERS = (
    ".git",
    ".claude",
    ".codex",
    ".cursor",
    ".devcontainer",
    ".gemini",
    ".husky",
    ".idea",
    ".vscode",
)
# HEAD is what git goes by: a folder with HEAD, objects and refs is a repository without any `.git`.
HEAD = "HEAD"
# Obeyed by agents as their person's word. Often links to one another, which is why those are not refused: see `scan`.
INSTRUCTIONS = ("AGENTS.md", "CLAUDE.md", "CLAUDE.local.md", "GEMINI.md", ".cursorrules")
# Obeyed in a home folder, and none can be granted (peer.trust.paths).
START_UP = (
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
)
HELD_FILES: dict[str, bytes] = {
    ".mcp.json": b'{"mcpServers":{}}\n',
    HEAD: b"",
    ".pre-commit-config.yaml": b"repos: []\n",  # an empty one is an error to whoever commits meanwhile
    **dict.fromkeys((".envrc", ".exrc", ".npmrc", ".nvim.lua", ".yarnrc.yml", *INSTRUCTIONS), b""),
}
# Not writable where they are, and told when they are new.
MORE_FOLDERS = frozenset({".continue", ".opencode", ".roo", ".windsurf", ".zed"})
MORE_FILES = frozenset(
    [
        ".aider.conf.yml",
        ".clinerules",
        ".dir-locals.el",
        ".gdbinit",
        ".gitconfig",
        ".gitmodules",
        ".gvimrc",
        ".irbrc",
        ".lldbinit",
        ".mise.toml",
        ".nvimrc",
        ".pdbrc",
        ".pryrc",
        ".ripgreprc",
        ".rprofile",
        ".tool-versions",
        ".vimrc",
        ".windsurfrules",
        ".zlogout",
        "copilot-instructions.md",
        "lefthook.yml",
        ".lefthook.yml",
        "mise.toml",
    ]
)
_INSTRUCTIONS = frozenset(name.casefold() for name in INSTRUCTIONS)
NAMES = frozenset(
    name.casefold() for name in {*HELD_FOLDERS, *HELD_FILES, *START_UP, *MORE_FOLDERS, *MORE_FILES} if name != HEAD
)
"""In small letters."""
# Of what tools install there, a host runs any file; so only what it runs unasked counts, and there may be much of it.
INSTALLED = "node_modules"
_NAMES_INSTALLED = frozenset(HELD_FOLDERS)

# About two seconds of walking; beyond it nobody can say what the folder holds.
MAX_ENTRIES = 400_000
# Every pin is a mount, and bwrap re-reads the mount table for each.
MAX_PINS = 256
# What a run made and a person is told of.
MAX_PLANTED = 10_000
PATH_MAX = 4096
_Kind = Literal["link", "folder", "file", "other"]


@dataclass(frozen=True, slots=True)
class Pin:
    """One thing that gets a mount of its own.

    ``path``: relative to the root it lies in. ``writable``: a folder on the way to a protected name, which must not
    be renamed away from above it. ``link``: it gets no mount, since it is a symbolic link to this; that it still is
    one is looked at when the run has ended.
    """

    path: Path
    writable: bool = False
    link: str = ""


def scan(
    root: Path, *, max_entries: int = MAX_ENTRIES, max_pins: int = MAX_PINS, refuse_links: bool = True
) -> tuple[Pin, ...]:
    """Every protected name and every bare repository below ``root``, at any depth, compared without case; what
    lies inside one is not looked at. Instructions of agents may be links; what they lead to in ``root`` is protected.

    ``refuse_links``: False only remembers them. Raises SandboxError 403 when another protected name is a symbolic link
    (it could be swapped under the pin) or ``root`` is a bare repository itself, and 413 when the folder is too large
    to look through, or holds too much to protect or what is nested too deeply for it.
    """
    pins = _found(root, max_entries=max_entries, max_pins=max_pins, refuse_links=refuse_links)
    # What links lead to may lie in a protected folder, or be named twice.
    fixed = {pin.path for pin in pins if not pin.link}
    pins = [pin for pin in dict.fromkeys(pins) if pin.link or fixed.isdisjoint(pin.path.parents)]
    above = {parent for pin in pins for parent in pin.path.parents if parent.parts}
    pins += [Pin(parent, writable=True) for parent in above]
    if len(pins) > max_pins:
        raise _too_many(root, len(pins), max_pins)
    return tuple(sorted(pins, key=lambda pin: pin.path.parts))  # what lies above comes first


def _found(root: Path, *, max_entries: int, max_pins: int, refuse_links: bool) -> list[Pin]:
    pins: list[Pin] = []
    seen = 0
    installed: int | None = None  # how deep the INSTALLED folder lies that this one is in
    # What we cannot list, the run, having the same user, cannot list either.
    for folder in walk(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)):
        names: dict[str, _Kind] = {}
        # Lazily: a folder may be endless to list.
        with os.scandir(folder.descriptor) as entries:
            for entry in entries:
                seen += 1
                if seen > max_entries:
                    raise SandboxError(
                        f"{root} holds more than {max_entries} files, too many to protect its repositories",
                        fix="grant a narrower folder",
                        code=413,
                    )
                names[entry.name] = _kind(entry)
        if _bare_repository({name.casefold() for name in names}):
            if not folder.depth:
                raise SandboxError(
                    f"{root} is a bare git repository, whose hooks a run that writes could change",
                    fix="grant a clone of it, or grant it without Write, Edit and Bash",
                    code=403,
                )
            pins.append(Pin(_pinnable(root, folder.path, refuse_links)))
            continue
        if installed is not None and folder.depth <= installed:
            installed = None
        if installed is None and folder.path and folder.path[-1] == INSTALLED:
            installed = folder.depth
        wanted = NAMES if installed is None else _NAMES_INSTALLED
        for name, kind in names.items():
            if name.casefold() not in wanted or kind == "other":
                if kind == "folder":
                    folder.inner.append(name)
                continue
            path = _pinnable(root, [*folder.path, name], refuse_links)
            if kind != "link":
                pins.append(Pin(path))
            elif not refuse_links:
                pins.append(Pin(path, link=os.readlink(name, dir_fd=folder.descriptor)))
            elif name.casefold() in _INSTRUCTIONS:
                pins += _linked(root, root / path)
            else:
                raise SandboxError(
                    f"{root / path} is a symbolic link, so it cannot be protected from the run",
                    fix="replace the link by what it points to, or grant a folder without it",
                    code=403,
                )
        if len(pins) > max_pins:
            raise _too_many(root, len(pins), max_pins)
    return pins


def _kind(entry: os.DirEntry[str]) -> _Kind:
    try:
        if entry.is_symlink():
            return "link"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "file" if entry.is_file(follow_symlinks=False) else "other"
    except OSError:
        return "other"  # gone since it was listed


def _pinnable(root: Path, parts: list[str], needed: bool) -> Path:
    """Join names to the path of a pin. Raises SandboxError 413 where one is ``needed`` and its path is longer than the
    kernel takes; else that is cut, since it is for people only.
    """
    length = len(os.fsencode(root))
    for number, name in enumerate(parts):
        length += 1 + len(os.fsencode(name))
        if length >= PATH_MAX:
            if not needed:
                return Path(*parts[:number])
            raise SandboxError(
                f"{root / Path(*parts[:8])} holds what must be protected, nested more deeply than it can be",
                fix="grant a narrower folder, or remove what is nested so deeply",
                code=413,
            )
    return Path(*parts)


def _too_many(root: Path, pins: int, most: int) -> SandboxError:
    return SandboxError(
        f"{root} holds {pins} repositories and settings folders; {most} can be protected",
        fix="grant a narrower folder",
        code=413,
    )


def _linked(root: Path, link: Path) -> list[Pin]:
    """The pins of instructions that are a link: it cannot be mounted on, so it is remembered; its target can."""
    said = str(link.readlink())
    target = Path(os.path.normpath(link.parent / said))
    pins = [Pin(link.relative_to(root), link=said)]
    if not target.is_relative_to(root):
        return pins  # nothing that this folder's run may write, or its own folder's matter
    if len(os.fsencode(target)) >= PATH_MAX or target.resolve() != target or not target.is_file():
        raise SandboxError(
            f"{link} is a symbolic link to what is no plain file, so it cannot be protected from the run",
            fix="let it lead straight to a file, or grant a folder without it",
            code=403,
        )
    return [*pins, Pin(target.relative_to(root))]


def _bare_repository(names: set[str]) -> bool:
    """Whether git might take a folder with these (case-folded) names for a repository and obey its config."""
    return "head" in names and ({"objects", "refs"} <= names or "commondir" in names)


def planted(root: Path, before: tuple[Pin, ...]) -> tuple[Path, ...]:
    """Protected names and repositories below ``root`` that were not there ``before`` the run, relative to it: what a
    person should be told of.

    Nothing can stop a run that may write a folder from making a new repository inside it, or from leading
    instructions that are a link elsewhere.
    """
    known = {(pin.path, pin.link) for pin in before}
    now = _found(root, max_entries=MAX_ENTRIES, max_pins=MAX_PLANTED, refuse_links=False)
    found = {pin.path for pin in now if (pin.path, pin.link) not in known}
    return tuple(sorted(found, key=lambda path: path.parts))
