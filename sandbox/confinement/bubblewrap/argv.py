"""A profile as the arguments of bwrap(1). Pure; opening what is bound is start.py's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.confinement.places import HOME, MODEL_SOCKET, SHELL_HOME, SHELL_LAUNCHER
from sandbox.confinement.profile import Profile
from sandbox.errors import SandboxError

LANDLOCK_MODULE: Final = Path("/run/dispatch/landlock.py")
SHELL_SETTINGS: Final = Path("/run/dispatch/shell.json")
SHELL_FILTER: Final = Path("/run/dispatch/shell.bpf")

# Of /etc only what programs need to find libraries, certificates, names and the time; nothing that may hold a secret.
ETC: Final = (
    *("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl/certs", "ssl/openssl.cnf"),
    *("ca-certificates", "ca-certificates.conf", "pki/tls/certs", "pki/ca-trust/extracted", "crypto-policies"),
    *("localtime", "timezone", "os-release", "debian_version", "mime.types", "magic", "inputrc", "terminfo"),
    *("services", "protocols"),
)
# A process of host uid 0 could write these: core_pattern and sysrq-trigger would take over or reboot the host.
PROC_READ_ONLY: Final = (
    *("sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "driver", "mtrr", "tty", "pressure"),
    *("dynamic_debug", "asound"),
)
PROC_HIDDEN: Final = (
    *("kcore", "kmsg", "keys", "key-users", "timer_list", "sched_debug", "kpagecount", "kpageflags", "kpagecgroup"),
)


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
    system-call filters in order.
    """

    binds: Mapping[Path, int]
    data: Mapping[Path, int]
    filters: Sequence[int]


def arguments(profile: Profile, host: Host, given: Descriptors) -> list[str]:
    """bwrap's arguments, without the program's.

    Sources are descriptors, opened beforehand without following links: a path could be swapped between check and mount.
    """
    limits = profile.limits
    out = ["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-net"]
    out += ["--unshare-cgroup-try"]
    out += ["--disable-userns", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    out += ["--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]
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
    out += ["--perms", "1777", "--size", str(limits.tmp_size), "--tmpfs", "/tmp"]  # noqa: S108 - the sandbox's own
    out += ["--perms", "0755", "--size", "1048576", "--tmpfs", "/run"]
    for target, link in host.store_links:
        out += ["--symlink", target, link]
    out += ["--perms", "0700", "--size", str(limits.home_size), "--tmpfs", str(SHELL_HOME)]
    if profile.home is None:
        out += ["--perms", "0700", "--size", str(limits.home_size), "--tmpfs", str(HOME)]
    for part in profile.runtime:
        out += ["--ro-bind-fd", str(given.binds[part.path]), str(part.inside)]
    # What lies above another first: a mount made later would cover those below it, and with them a read-only folder
    # inside a writable one.
    for mount in sorted(profile.mounts(), key=lambda mount: mount.at.parts):
        out += ["--bind-fd" if mount.writable else "--ro-bind-fd", str(given.binds[mount.source]), str(mount.at)]
    if profile.model_socket is not None:
        out += ["--bind-fd", str(given.binds[profile.model_socket]), str(MODEL_SOCKET)]
    for at, descriptor in given.data.items():
        out += ["--perms", "0555" if at == SHELL_LAUNCHER else "0444", "--ro-bind-data", str(descriptor), str(at)]
    out += ["--remount-ro", "/run", "--remount-ro", "/"]
    for descriptor in given.filters:
        out += ["--add-seccomp-fd", str(descriptor)]
    return [*out, "--chdir", str(profile.cwd)]


def environment_arguments(env: Mapping[str, str]) -> list[str]:
    """`--setenv` for each variable. bwrap itself is started with none: pid 1 would show them in /proc/1/environ."""
    out: list[str] = []
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise SandboxError(f"not an environment variable: {name!r}", code=422)
        out += ["--setenv", name, value]
    return out
