"""Names in a writable folder that make the host run something later: which they are, and where they are now.

Only looks; keeping them from being written is the confinement's. All of `.git` is protected, not only its config and
hooks: a new `.git/commondir` would redirect both. The name is protected as well as the content, or `mv .git g2; cp -r
g2 .git` would get around it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sandbox.confinement.walk import walk
from sandbox.errors import SandboxError

# Where one is missing at the top of a writable folder, an empty placeholder holds the name for the time of a run. Git,
# editors, agents and package tools act on these by themselves as soon as somebody works in the folder. Each costs the
# start of a run half a millisecond (a mount), so names that are obeyed only elsewhere are not among them.
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
# Agents follow these as instructions of their person. They are often links to one another, so links are not refused:
# see `scan`.
INSTRUCTIONS = ("AGENTS.md", "CLAUDE.md", "CLAUDE.local.md", "GEMINI.md", ".cursorrules")
# Obeyed only in a home folder, which can never be granted; so they are protected where they are, and not held.
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
# Not writable where they are, and reported when they are new.
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
"""Case-folded."""
# Anything that tools install there is run by the host anyway; only what it acts on unasked counts, and there is much.
INSTALLED = "node_modules"
_NAMES_INSTALLED = frozenset(HELD_FOLDERS)

# About two seconds of walking; a larger folder is refused, since what it holds would be unknown.
MAX_ENTRIES = 400_000
# Each is a mount of its own, and bwrap re-reads the mount table for each.
MAX_PROTECTED = 256
# What a run made and the person is shown at most.
MAX_APPEARED = 10_000
PATH_MAX = 4096
_Kind = Literal["link", "folder", "file", "other"]


@dataclass(frozen=True, slots=True)
class ProtectedPath:
    """A file or folder that keeps its name.

    `path`: relative to the root it lies in. `writable`: a folder on the way to a protected name, which must not be
    renamed away from above it. `link`: it is a symbolic link to this, cannot be held, and is compared when the run has
    ended.
    """

    path: Path
    writable: bool = False
    link: str = ""


def scan(
    root: Path, *, max_entries: int = MAX_ENTRIES, max_protected: int = MAX_PROTECTED, refuse_links: bool = True
) -> tuple[ProtectedPath, ...]:
    """Every protected name and every bare repository below `root`, at any depth, compared without case.

    What lies inside one is not looked at. Instructions for agents may be links; what they lead to in `root` is
    protected. `refuse_links`: False only records links. Raises SandboxError 403 when another protected name is a
    symbolic link (it could be swapped) or `root` is a bare repository itself, and 413 when the folder is too large to
    look through, or holds too much to protect, or something to protect that is nested too deeply.
    """
    found = _found(root, max_entries=max_entries, max_protected=max_protected, refuse_links=refuse_links)
    # What links lead to may lie in a protected folder, or be named twice.
    fixed = {one.path for one in found if not one.link}
    found = [one for one in dict.fromkeys(found) if one.link or fixed.isdisjoint(one.path.parents)]
    above = {parent for one in found for parent in one.path.parents if parent.parts}
    found += [ProtectedPath(parent, writable=True) for parent in above]
    if len(found) > max_protected:
        raise _too_many(root, len(found), max_protected)
    return tuple(sorted(found, key=lambda one: one.path.parts))  # what lies above comes first


def _found(root: Path, *, max_entries: int, max_protected: int, refuse_links: bool) -> list[ProtectedPath]:
    found: list[ProtectedPath] = []
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
            found.append(ProtectedPath(_protectable(root, folder.path, refuse_links)))
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
            path = _protectable(root, [*folder.path, name], refuse_links)
            if kind != "link":
                found.append(ProtectedPath(path))
            elif not refuse_links:
                found.append(ProtectedPath(path, link=os.readlink(name, dir_fd=folder.descriptor)))
            elif name.casefold() in _INSTRUCTIONS:
                found += _linked(root, root / path)
            else:
                raise SandboxError(
                    f"{root / path} is a symbolic link, so it cannot be protected from the run",
                    fix="replace the link by what it points to, or grant a folder without it",
                    code=403,
                )
        if len(found) > max_protected:
            raise _too_many(root, len(found), max_protected)
    return found


def _kind(entry: os.DirEntry[str]) -> _Kind:
    try:
        if entry.is_symlink():
            return "link"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "file" if entry.is_file(follow_symlinks=False) else "other"
    except OSError:
        return "other"  # gone since it was listed


def _protectable(root: Path, parts: list[str], needed: bool) -> Path:
    """Join names to a path that can be protected. Where that is longer than the kernel takes, it is cut, since it is
    for people only; where it is `needed`, raises SandboxError 413.
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


def _too_many(root: Path, found: int, most: int) -> SandboxError:
    return SandboxError(
        f"{root} holds {found} repositories and settings folders; {most} can be protected",
        fix="grant a narrower folder",
        code=413,
    )


def _linked(root: Path, link: Path) -> list[ProtectedPath]:
    """The found of instructions that are a link: it cannot be mounted on, so it is remembered; its target can."""
    said = str(link.readlink())
    target = Path(os.path.normpath(link.parent / said))
    found = [ProtectedPath(link.relative_to(root), link=said)]
    if not target.is_relative_to(root):
        return found  # nothing that this folder's run may write, or its own folder's matter
    if len(os.fsencode(target)) >= PATH_MAX or target.resolve() != target or not target.is_file():
        raise SandboxError(
            f"{link} is a symbolic link to what is no plain file, so it cannot be protected from the run",
            fix="let it lead straight to a file, or grant a folder without it",
            code=403,
        )
    return [*found, ProtectedPath(target.relative_to(root))]


def _bare_repository(names: set[str]) -> bool:
    """Whether git might take a folder with these (case-folded) names for a repository and obey its config."""
    return "head" in names and ({"objects", "refs"} <= names or "commondir" in names)


def appeared(root: Path, before: tuple[ProtectedPath, ...]) -> tuple[Path, ...]:
    """Protected names and repositories below `root` that were not there `before` the run, relative to it.

    The person should look at them: nothing can stop a run that may write a folder from making a new repository inside
    it, or from pointing instructions that are a link elsewhere.
    """
    known = {(one.path, one.link) for one in before}
    now = _found(root, max_entries=MAX_ENTRIES, max_protected=MAX_APPEARED, refuse_links=False)
    found = {one.path for one in now if (one.path, one.link) not in known}
    return tuple(sorted(found, key=lambda path: path.parts))
