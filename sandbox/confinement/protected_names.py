"""Names in a writable folder that make the host run something later: which they are, and where they are now.

Only looks; keeping them from being written is the confinement's. All of `.git` is protected, not only its config and
hooks: a new `.git/commondir` would redirect both. The name is protected as well as the content, or `mv .git g2; cp -r
g2 .git` would get around it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

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
    protected. `refuse_links`: False only records them. Raises SandboxError 403 when another protected name is a
    symbolic link (it could be swapped) or `root` is a bare repository itself, and 413 when the folder is too large to
    look through.
    """
    found: list[ProtectedPath] = []
    seen = 0
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            if folder == root:
                raise
            continue  # the run has the same user: what cannot be listed here, it cannot list either
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
            found.append(ProtectedPath(folder.relative_to(root)))
            continue
        names = _NAMES_INSTALLED if INSTALLED in folder.relative_to(root).parts else NAMES
        for entry in entries:
            protected = entry.name.casefold() in names
            linked = protected and entry.is_symlink()
            if linked and not refuse_links:
                found.append(ProtectedPath(Path(entry.path).relative_to(root), link=str(Path(entry.path).readlink())))
            elif linked and entry.name.casefold() in _INSTRUCTIONS:
                found += _linked(root, Path(entry.path))
            elif linked:
                raise SandboxError(
                    f"{entry.path} is a symbolic link, so it cannot be protected from the run",
                    fix="replace the link by what it points to, or grant a folder without it",
                    code=403,
                )
            is_folder = entry.is_dir(follow_symlinks=False)
            if protected and (is_folder or entry.is_file(follow_symlinks=False)):
                found.append(ProtectedPath(Path(entry.path).relative_to(root)))
            elif is_folder:
                waiting.append(Path(entry.path))
    # What links lead to may lie in a protected folder, or be named twice.
    fixed = {one.path for one in found if not one.link}
    found = [one for one in dict.fromkeys(found) if one.link or fixed.isdisjoint(one.path.parents)]
    above = {parent for one in found for parent in one.path.parents if parent.parts}
    found += [ProtectedPath(parent, writable=True) for parent in above]
    if len(found) > max_protected:
        raise SandboxError(
            f"{root} holds {len(found)} repositories and settings folders; {max_protected} can be protected",
            fix="grant a narrower folder",
            code=413,
        )
    return tuple(sorted(found, key=lambda one: one.path.parts))  # what lies above comes first


def _linked(root: Path, link: Path) -> list[ProtectedPath]:
    """What to protect of instructions that are a link: its target. The link itself can only be recorded."""
    target_name = str(link.readlink())
    target = Path(os.path.normpath(link.parent / target_name))
    found = [ProtectedPath(link.relative_to(root), link=target_name)]
    if not target.is_relative_to(root):
        return found  # not writable for this run, or protected by the root that it lies in
    if target.resolve() != target or not target.is_file():
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
    now = scan(root, max_protected=MAX_ENTRIES, refuse_links=False)
    return tuple(one.path for one in now if not one.writable and (one.path, one.link) not in known)
