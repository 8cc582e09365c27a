"""A profile as the arguments of bwrap(1). Pure; opening what is bound is start.py's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sandbox.confinement.bubblewrap import shell_launcher, zone_server
from sandbox.confinement.places import HOME, MODEL_SOCKET, SHELL_HOME, SHELL_LAUNCHER, TMP
from sandbox.confinement.profile import Profile
from sandbox.errors import SandboxError

ZONE_SERVER: Final = Path("/run/dispatch/zone_server.py")
LANDLOCK_MODULE: Final = Path("/run/dispatch/landlock.py")
ZONE_SETTINGS: Final = Path(zone_server.SETTINGS)
ZONE_SOCKET: Final = Path(shell_launcher.SOCKET)

Side = Literal["agent", "shells"]
"""Which of a run's two sandboxes: the agent program's, or the shell zone beside it."""

# Of /etc only what programs need to find libraries, certificates, names and the time; nothing that may hold a secret.
ETC: Final = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl/certs", "ssl/openssl.cnf"),
    *("ca-certificates", "ca-certificates.conf", "pki/tls/certs", "pki/ca-trust/extracted", "crypto-policies"),
    *("localtime", "timezone", "os-release", "debian_version", "mime.types", "magic", "inputrc", "terminfo"),
    *("services", "protocols"),
)
# Of what everyone may read in /proc: the keys of this machine's users, and what its scheduler knows of their programs.
PROC_HIDDEN: Final = ("keys", "key-users", "timer_list", "sched_debug")


@dataclass(frozen=True, slots=True)
class Host:
    """What depends on this machine: the top-level links of a merged /usr, and the /proc entries that exist.

    `store`: /nix/store where programs live there, else "". `store_links`: (target, link) by which they are found.
    """

    usr_links: tuple[tuple[str, str], ...] = ()
    usr_folders: tuple[str, ...] = ()
    proc_read_only: tuple[str, ...] = ("sys",)
    proc_hidden: tuple[str, ...] = ()
    store: str = ""
    store_links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Descriptor numbers that bwrap inherits.

    `binds`: host path → O_PATH descriptor. `data`: inside path → descriptor with a small file's content. `filters`:
    system-call filters in order. `zone_socket`: O_PATH descriptor of the socket that leads to the shell zone.
    """

    binds: Mapping[Path, int]
    data: Mapping[Path, int]
    filters: Sequence[int]
    zone_socket: int | None = None

    def all(self) -> list[int]:
        """Each of them."""
        own = [] if self.zone_socket is None else [self.zone_socket]
        return [*self.binds.values(), *self.data.values(), *self.filters, *own]


def arguments(profile: Profile, host: Host, given: Descriptors, side: Side = "agent") -> list[str]:
    """bwrap's arguments, without the program's.

    The shell zone sees what the agent sees, but has neither its sockets nor, for writing, its home.

    Sources are descriptors, opened beforehand without following links: a path could be swapped between check and mount.
    """
    limits = profile.limits
    out = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net"]
    out += ["--unshare-cgroup-try"]
    out += ["--disable-userns", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    out += ["--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]
    if side == "shells":
        out += ["--as-pid-1"]
    out += ["--ro-bind", "/usr", "/usr"]
    for target, name in host.usr_links:
        out += ["--symlink", target, name]
    for name in host.usr_folders:
        out += ["--ro-bind", name, name]
    if host.store:
        out += ["--ro-bind", host.store, host.store]
    for name in ETC:
        out += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    out += ["--proc", "/proc"]
    for name in host.proc_read_only:
        out += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in host.proc_hidden:
        out += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    out += ["--dev", "/dev", "--dev-bind", "/dev/full", "/dev/zero"]
    out += ["--perms", "1777", "--size", str(limits.shm_size), "--tmpfs", "/dev/shm"]  # noqa: S108 - the sandbox's own
    out += ["--remount-ro", "/dev"]
    out += ["--perms", "1777", "--size", str(limits.tmp_size), "--tmpfs", str(TMP)]
    out += ["--perms", "0755", "--size", "1048576", "--tmpfs", "/run"]
    for target, link in host.store_links:
        out += ["--symlink", target, link]
    if side == "shells":
        out += ["--perms", "0700", "--size", str(limits.home_size), "--tmpfs", str(SHELL_HOME)]
    elif profile.home is None:
        out += ["--perms", "0700", "--size", str(limits.home_size), "--tmpfs", str(HOME)]
    for place, target in profile.links.items():
        out += ["--symlink", target, str(place)]
    # A shell may rename a folder in /tmp, also one on the way to a mount: then the gate and the run would mean
    # different things by one path. A read-only file system of its own can be neither renamed nor changed.
    places = [*(mount.at for mount in profile.mounts()), *(part.inside for part in profile.runtime)]
    held = sorted({Path(*place.parts[:3]) for place in places if _is_deep_in_tmp(place)})
    for top in held:
        out += ["--perms", "0755", "--size", "1048576", "--tmpfs", str(top)]
    placed: dict[Path, Path] = {}
    for part in profile.runtime:
        # bwrap closes a descriptor that it has bound. What has two names on this machine has them by a link there, too.
        if part.path in placed:
            out += ["--symlink", str(placed[part.path]), str(part.inside)]
        else:
            out += ["--ro-bind-fd", str(given.binds[part.path]), str(part.inside)]
            placed[part.path] = part.inside
    # What lies above another first: a mount made later would cover those below it, and with them a read-only folder
    # inside a writable one.
    for mount in sorted(profile.mounts(), key=lambda mount: mount.at.parts):
        writable = mount.writable and not (side == "shells" and mount.at == HOME)
        out += ["--bind-fd" if writable else "--ro-bind-fd", str(given.binds[mount.source]), str(mount.at)]
    if profile.model_socket is not None and side == "agent":
        out += ["--bind-fd", str(given.binds[profile.model_socket]), str(MODEL_SOCKET)]
    if given.zone_socket is not None and side == "agent":
        out += ["--bind-fd", str(given.zone_socket), str(ZONE_SOCKET)]
    # Written into the sandbox's own file systems, which become read-only. --ro-bind-data shows a file that has been
    # deleted, and to what Ubuntu's AppArmor profile for bubblewrap confines there is none of those.
    for at, descriptor in given.data.items():
        out += ["--perms", "0555" if at == SHELL_LAUNCHER else "0444", "--file", str(descriptor), str(at)]
    # A shell writes nothing of its own /proc/self either, its OOM score say: not every kernel has Landlock against it.
    own_proc = (Path("/proc"),) if side == "shells" else ()
    for top in (*held, *own_proc, Path("/run"), Path("/")):
        out += ["--remount-ro", str(top)]
    for descriptor in given.filters:
        out += ["--add-seccomp-fd", str(descriptor)]
    return [*out, "--chdir", str(profile.cwd)]


def _is_deep_in_tmp(at: Path) -> bool:
    return at.is_relative_to("/tmp") and len(at.parts) > 3  # noqa: S108 - the sandbox's own


def environment_arguments(env: Mapping[str, str]) -> list[str]:
    """`--setenv` for each variable. bwrap itself is started with none: pid 1 would show them in /proc/1/environ."""
    out: list[str] = []
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise SandboxError(f"not an environment variable: {name!r}", code=422)
        out += ["--setenv", name, value]
    return out
