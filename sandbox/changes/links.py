"""Where a symbolic link of a change set will lead, once the change set is put in place. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_MAX_LINKS: Final = 40
_MAX_STEPS: Final = 2_000

OUTSIDE: Final = "it leads out of the folder, so it is never applied"


def leads_out(path: bytes, target: bytes, link_at: Callable[[bytes], bytes | None]) -> bool:
    """Whether the link at `path` leads out of the root, or cannot be followed to an end.

    `link_at(path)`: the target of a link that will be at this path, None where there will be none. What leads
    to nothing inside is inside.
    """
    if target.startswith(b"/"):
        return True
    at = path.split(b"/")[:-1]
    rest = target.split(b"/")[::-1]
    links = 1
    for _ in range(_MAX_STEPS):
        if not rest:
            return False
        name = rest.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            if not at:
                return True
            at.pop()
            continue
        found = link_at(b"/".join([*at, name]))
        if found is None:
            at.append(name)
            continue
        links += 1
        if links > _MAX_LINKS or found.startswith(b"/"):
            return True
        rest += found.split(b"/")[::-1]
    return True
