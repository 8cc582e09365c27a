"""Names that decide how a change is taken: version control's own, and folders that tools fill. Pure."""

from __future__ import annotations

from typing import Final, Literal

METADATA: Final = frozenset([b".git", b".hg", b".jj", b".svn"])
"""Version control's own files and folders, in small letters."""
FILLED: Final = frozenset(
    [
        b"node_modules",
        b".venv",
        b"venv",
        b"__pycache__",
        b".tox",
        b".nox",
        b".mypy_cache",
        b".pytest_cache",
        b".ruff_cache",
        b".hypothesis",
        b".gradle",
        b".next",
        b".nuxt",
        b".parcel-cache",
        b".turbo",
    ]
)
"""Folders that tools fill, in small letters."""
BUILT: Final = frozenset([b"dist", b"build", b"target", b"out"])
"""Folders that tools fill where version control ignores them; `target` also with a tag, or beside a Cargo.toml."""

Special = Literal["metadata", "filled", ""]


def special(name: bytes) -> Special:
    """How a file or folder of this name is taken, whatever else is known of it."""
    small = name.lower()
    return "metadata" if small in METADATA else "filled" if small in FILLED else ""


def special_parent(path: bytes) -> tuple[bytes, Special]:
    """(the topmost part of `path` with a special name, how it is taken), or (b"", "")."""
    at = -1
    while True:
        end = path.find(b"/", at + 1)
        name = path[at + 1 : end if end >= 0 else len(path)]
        # A file may have the name of a tool's folder; version control's name counts for files, too.
        if (kind := special(name)) == "metadata" or (kind and end >= 0):
            return (path if end < 0 else path[:end]), kind
        if end < 0:
            return b"", ""
        at = end


REPOSITORY_PARTS: Final = (b"objects", b"refs", b"commondir")


def is_repository(names: set[bytes]) -> bool:
    """Whether git may take a folder that holds these names (in small letters) for a repository, and obey its config."""
    return b"head" in names and (b"commondir" in names or {b"objects", b"refs"} <= names)
