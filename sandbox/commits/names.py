"""Names of refs, made of the names that a run gave its branches. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

MAX_NAME: Final = 100
"""Bytes of a branch's name that is taken over as it is."""
HEAD: Final = b"HEAD"
_PART: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_+=-]|\.(?=[A-Za-z0-9_+=-]))*"
_SAFE: Final = re.compile(rf"{_PART}(?:/{_PART})*")


def is_safe(ref: str) -> bool:
    """Whether it is a name for a ref that no shell, no screen and no file system takes for anything else."""
    return (
        len(ref) <= MAX_NAME
        and bool(_SAFE.fullmatch(ref))
        and not any(part.lower().endswith(".lock") for part in ref.split("/"))
    )


def safe_names(names: Sequence[bytes]) -> list[str]:
    """Return a safe name for each, in the same order: itself, or else `branch-N` by its place, or `detached-head`.

    None is another one's folder, and no two differ in case alone, so that every file system can hold them together.
    """
    taken: list[str] = []
    for number, name in enumerate(names, start=1):
        own = "detached-head" if name == HEAD else name.decode("utf-8", "replace")
        wanted = own if is_safe(own) and not any(_collide(own, other) for other in taken) else f"branch-{number}"
        extra = 0
        while any(_collide(wanted, other) for other in taken):
            extra += 1
            wanted = f"branch-{number}-{extra}"
        taken.append(wanted)
    return taken


def _collide(one: str, other: str) -> bool:
    one, other = one.lower(), other.lower()
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
