"""From a path as the agent spells it to the path on this machine, symbolic links followed. Decides nothing.

Inside the sandbox the granted folders have other names than outside. Links are therefore followed here by hand,
component by component: `/project/notes -> /dispatch/in` leads where it does for the agent, not where the same text
leads on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

from sandbox.policy.decision import Resolve

_LINKS_FOLLOWED: Final = 40
"""As many as the kernel follows (path_resolution(7))."""


def resolver(outside: Callable[[Path], Path | None]) -> Resolve:
    """A `Resolve` over `outside`, which translates a path inside to the one on this machine, or to None.

    A path whose last parts do not exist yet resolves as far as it exists and keeps the rest. A loop resolves to None.
    """

    def resolve(path: str) -> str | None:
        at = PurePosixPath("/")
        ahead = _parts(path)
        links = 0
        while ahead:
            name = ahead.pop()
            if name == "..":
                at = at.parent
                continue
            step = at / name
            target = _link(outside(Path(step)))
            if target is None:
                at = step
                continue
            links += 1
            if links > _LINKS_FOLLOWED:
                return None
            if target.startswith("/"):
                at = PurePosixPath("/")
            ahead += _parts(target)
        meant = outside(Path(at))
        return None if meant is None else str(meant)

    return resolve


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return str(path.readlink())
    except (OSError, ValueError):
        return None
