"""What a run gets of the machine's toolchains, and where its tools keep what they fetch. Pure.

Which toolchains there are was found outside (peer.machine.toolchains), by files that a project wrote among others. So
what comes of it is looked at again here, where it is bound: it takes no place of the sandbox's own, shows nothing that
must stay hidden, and puts no folder on PATH that the run may write, since the agent program looks there as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox import frames
from sandbox.confinement import Root
from sandbox.confinement.places import HOME, SHELL_HOME, WORKSPACE
from sandbox.errors import SandboxError
from sandbox.run.folder import CACHE

_CACHE: Final = WORKSPACE / CACHE

CACHES: Final[Mapping[str, str]] = {
    **{"UV_CACHE_DIR": f"{_CACHE}/uv", "PIP_CACHE_DIR": f"{_CACHE}/pip", "npm_config_cache": f"{_CACHE}/npm"},
    **{"CARGO_HOME": f"{_CACHE}/cargo", "GOCACHE": f"{_CACHE}/go-build", "GOMODCACHE": f"{_CACHE}/go-mod"},
}
"""Caches of the run's own, on its disk: a build cache of go alone is larger than the home in memory. They begin with
`Start.seeds` of what the person's own caches hold, and nothing else.
"""

_NO_OTHERS: Final[Mapping[str, str]] = {
    **{"UV_PYTHON_DOWNLOADS": "never", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "npm_config_update_notifier": "false"},
    "GOTOOLCHAIN": "local",
}
"""No tool fetches another version of itself."""

_OWN_PLACES: Final = tuple(
    Path("/", name)
    for name in (
        *("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc"),
        *("proc", "sys", "dev", "run", "boot", "dispatch"),
    )
)
_OF_JAVA: Final = re.compile(r"/etc/java-[0-9]{1,3}-openjdk/[a-z0-9./-]{1,80}")
"""Debian keeps there what its Java starts with."""
_VARIABLES: Final = frozenset({"UV_PYTHON_INSTALL_DIR", "GOROOT", "JAVA_HOME"})


@dataclass(frozen=True, slots=True)
class Seen:
    """`mounts`: read-only. `programs`: inside folders for PATH. `variables`: for every program of the run."""

    mounts: tuple[Root, ...]
    programs: tuple[Path, ...]
    variables: Mapping[str, str]


def seen(
    given: frames.Toolchains, *, roots: Sequence[Root], programs: Sequence[Root], protected: Sequence[Path]
) -> Seen:
    """What a run gets. `roots`: the granted folders; what lies in one is seen there. `programs`: the agent program's.

    Raises SandboxError 403 for a mount in a place that is not a toolchain's, or that would show what must stay hidden.
    """
    mounts: list[Root] = []
    for mount in sorted(given.mounts, key=lambda each: Path(each.at).parts):
        path, at = Path(mount.path), Path(mount.at)
        for place in (path, at):
            _check(place, programs, protected)
        if not any(_overlap(path, root.path) or _overlap(at, root.inside) for root in roots):
            mounts.append(Root(path, at=at))
    return Seen(
        tuple(mounts),
        tuple(Path(folder) for folder in given.programs if _is_of(Path(folder), mounts)),
        {
            **_NO_OTHERS,
            **CACHES,
            **{name: value for name, value in given.variables.items() if name in _VARIABLES},
        },
    )


def _check(place: Path, programs: Sequence[Root], protected: Sequence[Path]) -> None:
    if not place.is_absolute() or len(place.parts) < 3 or ".." in place.parts:
        raise SandboxError(f"{place} cannot be a toolchain", code=403)
    own = [*_OWN_PLACES, WORKSPACE, HOME, SHELL_HOME]
    if any(_overlap(place, taken) for taken in own) and not _OF_JAVA.fullmatch(str(place)):
        raise SandboxError(f"{place} is used by the sandbox itself, so it cannot be a toolchain", code=403)
    if any(_overlap(place, program.inside) for program in programs):
        raise SandboxError(
            f"{place} is where the sandbox has the agent program",
            fix="remove it from the edge: `dispatch trust edit … --toolchains`",
            code=403,
        )
    if hidden := next((hidden for hidden in protected if _overlap(place, hidden)), None):
        raise SandboxError(f"the toolchain {place} would show {hidden} to the run", code=403)


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _is_of(folder: Path, mounts: Sequence[Root]) -> bool:
    """Whether a folder for PATH is one of what is mounted, or the one that the sandbox makes around single programs.

    Not below /tmp: a run that may not write a folder there may still rename what it lies in, and make another one.
    """
    return (
        not folder.is_relative_to("/tmp")  # noqa: S108 - inside
        and ":" not in str(folder)
        and any(folder.is_relative_to(mount.inside) or folder == mount.inside.parent for mount in mounts)
    )
