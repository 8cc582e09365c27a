"""What a run may see, as a value, and the bwrap arguments that say so. Pure: nothing is opened, started
or looked up here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.confinement.limits import Limits
from sandbox.confinement.protect import Pin
from sandbox.errors import SandboxError

# Where things are seen inside. Neutral on purpose: nothing of the person's own folder names reaches the
# agent through them.
WORKSPACE = Path("/dispatch")
HOME = Path("/run/home/agent")
SHELL_HOME = Path("/run/home/shell")
MODEL_SOCKET = Path("/run/dispatch/model.sock")
SHELL_LAUNCHER = Path("/run/dispatch/shell")
LANDLOCK_MODULE = Path("/run/dispatch/landlock.py")
SHELL_SETTINGS = Path("/run/dispatch/shell.json")
SHELL_FILTER = Path("/run/dispatch/shell.bpf")

# Of /etc only what programs need to find libraries, certificates, names and the time; nothing that may hold
# a secret.
ETC = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "ca-certificates.conf",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "crypto-policies",
    "localtime",
    "timezone",
    "os-release",
    "debian_version",
    "mime.types",
    "magic",
    "inputrc",
    "terminfo",
    "services",
    "protocols",
)
# Seen by a process of host uid 0 as its own files: core_pattern and sysrq-trigger would take over or reboot
# the host.
PROC_READ_ONLY = (
    "sys",
    "sysrq-trigger",
    "irq",
    "bus",
    "fs",
    "acpi",
    "scsi",
    "driver",
    "mtrr",
    "tty",
    "pressure",
    "dynamic_debug",
    "asound",
)
PROC_HIDDEN = (
    "kcore",
    "kmsg",
    "keys",
    "key-users",
    "timer_list",
    "sched_debug",
    "kpagecount",
    "kpageflags",
    "kpagecgroup",
)
_OCCUPIED = tuple(
    Path(name)
    for name in (
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/etc",
        "/proc",
        "/sys",
        "/dev",
        "/run",
        "/boot",
    )
)


@dataclass(frozen=True, slots=True)
class Root:
    """A folder (or file) of the person's that a run may see. ``path``: on the host, absolute, free of
    symbolic links. ``at``: where it is seen inside; the same path unless given.
    """

    path: Path
    writable: bool = False
    at: Path | None = None

    @property
    def inside(self) -> Path:
        return self.at or self.path


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything one run may see. Paths are the host's unless said otherwise.

    ``workspace``: the run's own folder, writable, seen at /dispatch. ``home``: seen at /run/home/agent,
    writable for the agent program and not for its shells; None is an empty, bounded one in memory.
    ``model_socket``: seen at /run/dispatch/model.sock, the only way out; None is none. ``runtime``:
    programs and libraries outside /usr, read-only whatever they say. ``protected``: what must never be
    visible (state folder, ~/.ssh): a root that is, holds or lies in one of them is refused. ``cwd``: an
    inside path. Raises SandboxError 403 or 422 for a set of paths that cannot be confined.
    """

    workspace: Path
    home: Path | None = None
    roots: tuple[Root, ...] = ()
    model_socket: Path | None = None
    runtime: tuple[Root, ...] = ()
    protected: tuple[Path, ...] = ()
    cwd: Path = WORKSPACE
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        _check(self)

    def inside(self, path: Path) -> Path | None:
        """Where the host's ``path`` (absolute, resolved) is seen inside, or None where it is not."""
        return _translate(path, [(source, at) for source, at, _ in self.seen()])

    def outside(self, path: Path) -> Path | None:
        """The host's path of what is seen at ``path`` inside, or None where it is the sandbox's own."""
        return _translate(path, [(at, source) for source, at, _ in self.seen()])

    def seen(self) -> tuple[tuple[Path, Path, bool], ...]:
        """The person's and the run's own folders as (host path, inside path, writable), in the order
        they are mounted.
        """
        own = [(self.workspace, WORKSPACE, True)]
        if self.home is not None:
            own.append((self.home, HOME, True))
        roots = sorted(self.roots, key=lambda root: len(root.inside.parts))
        return (*own, *((root.path, root.inside, root.writable) for root in roots))

    def tmpfs(self) -> tuple[Path, ...]:
        """Inside paths at which a file system in memory lies that the run may write."""
        places = (Path("/tmp"), Path("/dev/shm"), SHELL_HOME)  # noqa: S108 - the sandbox's own
        return places if self.home is not None else (*places, HOME)

    def environment(self) -> dict[str, str]:
        """The variables every confined program needs, none of them the host's."""
        return {
            "HOME": str(HOME),
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
            "USER": "agent",
            "LOGNAME": "agent",
            "SHELL": "/bin/bash",
            "TERM": "dumb",
        }


@dataclass(frozen=True, slots=True)
class Host:
    """What the builder must know of this machine: the top-level links of a merged /usr, and /proc
    entries that exist.
    """

    usr_links: tuple[tuple[str, str], ...] = ()
    usr_folders: tuple[str, ...] = ()
    proc_read_only: tuple[str, ...] = ("sys",)
    proc_hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Descriptor numbers that bwrap inherits. ``binds``: host path → O_PATH descriptor; ``data``: inside
    path → descriptor with a small file's content; ``filters``: system-call filters in order.
    """

    binds: Mapping[Path, int]
    data: Mapping[Path, int]
    filters: Sequence[int]


def arguments(profile: Profile, host: Host, pins: Mapping[Path, Sequence[Pin]], given: Descriptors) -> list[str]:
    """bwrap's arguments, without the program's. ``pins``: host path of a writable root → the protected
    names in it.

    Sources are descriptors, opened beforehand without following links: a path could be swapped between
    check and mount.
    """
    limits = profile.limits
    out = [
        "--unshare-user",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-uts",
        "--unshare-net",
        "--unshare-cgroup-try",
    ]
    out += ["--disable-userns", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    out += ["--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]
    out += ["--ro-bind", "/usr", "/usr"]
    for target, name in host.usr_links:
        out += ["--symlink", target, name]
    for name in host.usr_folders:
        out += ["--ro-bind", name, name]
    for name in ETC:
        out += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    out += ["--proc", "/proc"]
    for name in host.proc_read_only:
        out += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in host.proc_hidden:
        out += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    out += [
        "--dev",
        "/dev",
        "--dev-bind",
        "/dev/full",
        "/dev/zero",
        "--perms",
        "1777",
        "--size",
        str(limits.shm_size),
        "--tmpfs",
        "/dev/shm",  # noqa: S108
        "--remount-ro",
        "/dev",
    ]
    out += ["--perms", "1777", "--size", str(limits.tmp_size), "--tmpfs", "/tmp"]  # noqa: S108 - the sandbox's own
    out += ["--perms", "0755", "--size", "1048576", "--tmpfs", "/run"]
    out += ["--perms", "0700", "--size", str(limits.home_size), "--tmpfs", str(SHELL_HOME)]
    if profile.home is None:
        out += ["--perms", "0700", "--size", str(limits.home_size), "--tmpfs", str(HOME)]
    for part in profile.runtime:
        out += ["--ro-bind-fd", str(given.binds[part.path]), str(part.inside)]
    for at, source, writable in _mounts(profile, pins):
        out += ["--bind-fd" if writable else "--ro-bind-fd", str(given.binds[source]), str(at)]
    if profile.model_socket is not None:
        out += ["--bind-fd", str(given.binds[profile.model_socket]), str(MODEL_SOCKET)]
    for at, descriptor in given.data.items():
        out += [
            "--perms",
            "0555" if at == SHELL_LAUNCHER else "0444",
            "--ro-bind-data",
            str(descriptor),
            str(at),
        ]
    out += ["--remount-ro", "/run", "--remount-ro", "/"]
    for descriptor in given.filters:
        out += ["--add-seccomp-fd", str(descriptor)]
    return [*out, "--chdir", str(profile.cwd)]


def environment_arguments(env: Mapping[str, str]) -> list[str]:
    """``--setenv`` for each variable. bwrap itself is started with none: pid 1 would show them in
    /proc/1/environ.
    """
    out: list[str] = []
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise SandboxError(f"not an environment variable: {name!r}", code=422)
        out += ["--setenv", name, value]
    return out


def _mounts(profile: Profile, pins: Mapping[Path, Sequence[Pin]]) -> list[tuple[Path, Path, bool]]:
    """Roots and pins as (inside path, host path, writable), whatever lies above another first.

    A mount made later would cover those below it, and with them a read-only folder inside a writable one.
    """
    out = []
    seen = profile.seen()
    for source, at, writable in seen:
        out.append((at, source, writable))
        # Inside a root of its own, that root's rules hold: it has its own pins, or is read-only altogether.
        inner = [place for _, place, _ in seen if place != at and place.is_relative_to(at)]
        for pin in pins.get(source, ()) if writable else ():
            if not pin.link and not any((at / pin.path).is_relative_to(place) for place in inner):
                out.append((at / pin.path, source / pin.path, pin.writable))
    return sorted(out, key=lambda mount: mount[0].parts)


def _translate(path: Path, pairs: Sequence[tuple[Path, Path]]) -> Path | None:
    best: tuple[Path, Path] | None = None
    for source, target in pairs:
        if path.is_relative_to(source) and (best is None or len(source.parts) >= len(best[0].parts)):
            best = (source, target)
    return None if best is None else best[1] / path.relative_to(best[0])


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
            if path == Path("/") or any(path.is_relative_to(taken) for taken in _OCCUPIED):
                raise SandboxError(
                    f"{path} belongs to the system and cannot be granted",
                    fix="grant a project folder",
                    code=403,
                )
        if any(root.inside.is_relative_to(mine) or mine.is_relative_to(root.inside) for mine in own):
            raise SandboxError(
                f"{root.inside} is the run's own place inside the sandbox",
                fix="give the folder another one",
                code=422,
            )
        for hidden in profile.protected:
            if hidden.is_relative_to(root.path) or root.path.is_relative_to(hidden):
                raise SandboxError(
                    f"{root.path} would show {hidden} to the run", fix="grant a narrower folder", code=403
                )
        places.append(root.inside)
    if len(set(places)) != len(places):
        raise SandboxError("two granted folders have the same place inside the sandbox", code=422)
    for part in profile.runtime:
        if any(hidden.is_relative_to(part.path) for hidden in profile.protected):
            raise SandboxError(f"the program folder {part.path} holds something that must stay hidden", code=403)
