"""What one run may see and use, as a value in the run's own terms. Pure; a confinement translates it.

Nothing is opened, started or looked up here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandbox.confinement.places import HOME, SHELL_HOME, TMP, WORKSPACE
from sandbox.errors import SandboxError

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB

_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/run/current-system/sw/bin"

_OCCUPIED: Final = tuple(
    Path("/", name)
    for name in (
        *("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"),
        *("etc", "proc", "sys", "dev", "run", "boot"),
    )
)


REMOVABLE: Final = Path("/run/media")
"""Below it lie the disks that a person plugged in: the one place in a folder of the system's that holds projects."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in bytes, seconds or counts.

    Of each process: `data` (private writable memory; the address space is left alone because V8, Go and Java reserve
    tens of GiB that they never touch, and below 1 GiB of data the claude program does not start), `file_size`,
    `cpu_seconds`, `open_files`, `locked_memory`. Of the whole run: `processes` with their threads, `memory`, the file
    systems in memory (`tmp_size`, `home_size`, `shm_size`), `disk` and `files` in its own folders, and the `room` that
    it leaves on file systems it may write (or a twentieth of one, if that is more).
    """

    data: int = 4 * GIB
    file_size: int = 2 * GIB
    cpu_seconds: int = 3600
    processes: int = 1024
    open_files: int = 4096
    locked_memory: int = 64 * MIB
    tmp_size: int = 1 * GIB
    home_size: int = 256 * MIB
    shm_size: int = 128 * MIB
    memory: int = 8 * GIB
    disk: int = 10 * GIB
    files: int = 250_000
    room: int = GIB


@dataclass(frozen=True, slots=True)
class View:
    """What a run gets in place of a folder (or file) that it may write. Host paths.

    `seen`: what is shown to the run. `written`: where on the disk that comes to lie which the run writes there.
    """

    seen: Path
    written: Path


@dataclass(frozen=True, slots=True)
class Root:
    """A folder (or file) of the person's that a run may see.

    `path`: on the host, absolute, free of symbolic links. `at`: where it is seen inside; the same path unless given.
    `view`: what is shown in its place; no confinement starts anything with a writable root that has none. `name`: what
    it is called in what leaves this machine. `repository`: the project whose repository's own folder it is, of which
    nothing but commits comes back; "" for any other.
    """

    path: Path
    writable: bool = False
    at: Path | None = None
    view: View | None = None
    name: str = ""
    repository: str = ""

    @property
    def inside(self) -> Path:
        return self.at or self.path


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file as the run sees it: `source` on the host, `at` inside.

    `original`: the person's, which `source` is a view of; `source` itself where it is none.
    """

    source: Path
    at: Path
    writable: bool
    original: Path


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything one run may see. Paths are the host's unless said otherwise.

    `workspace`: the run's own folder, writable, seen at /dispatch. `home`: seen at /run/home/agent, writable for the
    agent program and not for its shells; None is an empty, bounded one in memory. `shells`: whether the agent program
    may start shell commands; these have a /tmp of their own. `model_socket`: seen at /run/dispatch/model.sock, the only
    way out; None is none. `runtime`: programs and libraries outside /usr, read-only whatever they say. `protected`:
    what must never be visible (state folder, ~/.ssh): a root that is, holds or lies in one of them is refused. `files`:
    small files of the run's own in /etc, `links`: symbolic links, by their inside paths. `cwd`: an inside path.
    `programs`: inside folders for PATH, before the system's; none that the run may write. `variables`: what the run's
    tools are told, `shell_variables`: its shell commands alone. `network`: whether these find a proxy on loopback,
    which whoever starts the run serves. Raises SandboxError 403 or 422 for a set of paths that cannot be confined.
    """

    workspace: Path
    home: Path | None = None
    shells: bool = True
    roots: tuple[Root, ...] = ()
    model_socket: Path | None = None
    runtime: tuple[Root, ...] = ()
    protected: tuple[Path, ...] = ()
    files: Mapping[Path, bytes] = field(default_factory=dict)
    links: Mapping[Path, str] = field(default_factory=dict)
    cwd: Path = WORKSPACE
    limits: Limits = field(default_factory=Limits)
    programs: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    shell_variables: Mapping[str, str] = field(default_factory=dict)
    network: bool = False

    def __post_init__(self) -> None:
        _check(self)

    def inside(self, path: Path) -> Path | None:
        """Where the host's `path` (absolute, resolved) is seen inside, or None where it is not."""
        found = _best(path, [(mount.original, mount) for mount in self.mounts()])
        return None if found is None else found.at / path.relative_to(found.original)

    def outside(self, path: Path) -> Path | None:
        """The host's path of what is seen at `path` inside, or None where it is the sandbox's own.

        In a view it is the original's path; what is there is `source`'s.
        """
        found = _best(path, [(mount.at, mount) for mount in self.mounts()])
        return None if found is None else found.original / path.relative_to(found.at)

    def source(self, path: Path) -> tuple[Path, Path] | None:
        """What the run sees at `path` inside: a folder or file of the host, and a path relative to it that the run
        makes up, links and all. None where it is the sandbox's own.
        """
        found = _best(path, [(mount.at, mount) for mount in self.mounts()])
        return None if found is None else (found.source, path.relative_to(found.at))

    def link(self, path: Path) -> str | None:
        """Where one of `links` leads, None where there is none."""
        return self.links.get(path)

    def mounts(self) -> tuple[Mount, ...]:
        """The person's and the run's own folders; one that holds another comes before it."""
        own = [Mount(self.workspace, WORKSPACE, True, self.workspace)]
        if self.home is not None:
            own.append(Mount(self.home, HOME, True, self.home))
        roots = sorted(self.roots, key=lambda root: len(root.inside.parts))
        return (
            *own,
            *(
                Mount(root.path if root.view is None else root.view.seen, root.inside, root.writable, root.path)
                for root in roots
            ),
        )

    def in_memory(self) -> tuple[Path, ...]:
        """Inside paths at which a file system in memory lies that the agent program or a shell may write."""
        places = (TMP, Path("/dev/shm"), SHELL_HOME)  # noqa: S108 - the sandbox's own
        return places if self.home is not None else (*places, HOME)

    def environment(self) -> dict[str, str]:
        """The variables every confined program needs, none of them from the host's environment."""
        return {
            **self.variables,
            "HOME": str(HOME),
            "PATH": ":".join([*map(str, self.programs), _PATH]),
            "LANG": "C.UTF-8",
            "TMPDIR": str(TMP),
            "USER": "agent",
            "LOGNAME": "agent",
            "SHELL": "/bin/bash",
            "TERM": "dumb",
        }


def can_hold_link(place: Path, roots: Sequence[Root]) -> bool:
    """Whether a symbolic link can stand at `place` inside, beside `roots`, where no run can change it."""
    taken = (WORKSPACE, *_OCCUPIED, Path("/tmp"), *(root.inside for root in roots))  # noqa: S108 - inside
    return place.is_absolute() and not any(place.is_relative_to(one) or one.is_relative_to(place) for one in taken)


def _best(path: Path, places: Sequence[tuple[Path, Mount]]) -> Mount | None:
    """The mount whose place holds `path` most closely."""
    best: tuple[Path, Mount] | None = None
    for place, mount in places:
        if path.is_relative_to(place) and (best is None or len(place.parts) >= len(best[0].parts)):
            best = (place, mount)
    return None if best is None else best[1]


def _check(profile: Profile) -> None:
    given = [profile.workspace, *(root.path for root in profile.roots), *profile.protected, profile.cwd]
    given += [root.inside for root in profile.roots]
    given += [path for part in profile.runtime for path in (part.path, part.inside)]
    given += [path for path in (profile.home, profile.model_socket) if path is not None]
    for path in given:
        if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
            raise SandboxError(f"not an absolute path: {path}", code=422)
    own = [WORKSPACE, HOME, SHELL_HOME]
    places: list[Path] = []
    for root in profile.roots:
        for path in (root.path, root.inside):
            if path == Path("/") or (
                any(path.is_relative_to(taken) for taken in _OCCUPIED) and REMOVABLE not in path.parents
            ):
                raise SandboxError(
                    f"{path} belongs to the system and cannot be granted",
                    fix="grant a project folder",
                    code=403,
                )
        if any(root.inside.is_relative_to(mine) or mine.is_relative_to(root.inside) for mine in own):
            raise SandboxError(
                f"{root.inside} is used by the run itself inside the sandbox",
                fix="grant a folder with another path",
                code=422,
            )
        for hidden in profile.protected:
            if hidden.is_relative_to(root.path) or root.path.is_relative_to(hidden):
                raise SandboxError(
                    f"{root.path} would show {hidden} to the run", fix="grant a narrower folder", code=403
                )
        places.append(root.inside)
    if len(set(places)) != len(places):
        raise SandboxError("two granted folders have the same path inside the sandbox", code=422)
    for place in profile.links:
        if not can_hold_link(place, profile.roots):
            raise SandboxError(f"there cannot be a link at {place} inside the sandbox", code=422)
    for part in profile.runtime:
        if any(hidden.is_relative_to(part.path) for hidden in profile.protected):
            raise SandboxError(f"the program folder {part.path} holds something that must stay hidden", code=403)
