"""What a confined run must not reach, made for the time of a proof, and how to try. Trying and judging: canaries.py."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sandbox.confinement.places import HOME, MODEL_SOCKET, WORKSPACE
from sandbox.confinement.profile import Profile

_NAMESPACES: Final = ("net", "pid", "ipc", "uts", "mnt", "user")
# What the shell, prlimit or the loader add themselves: always the same few, and never a secret.
_HARMLESS_VARIABLES: Final = ("PWD", "OLDPWD", "_", "SHLVL", "LC_CTYPE")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing to try.

    `kind`: a function of canary_probe.py; `outside` and `inside`: its arguments on either side. `required`: must
    succeed outside, unless the file `of` is gone, which another program may remove. `permitted`: must succeed inside
    as well.
    """

    name: str
    kind: str
    outside: Mapping[str, object]
    inside: Mapping[str, object]
    required: bool = True
    permitted: bool = False
    of: Path | None = None


@contextlib.contextmanager
def targets(profile: Profile) -> Iterator[tuple[list[Attempt], list[Attempt], int]]:
    """Make what must not be reached, for the time of the proof: (attempts, attempts of a shell, descriptor to leak)."""
    with contextlib.ExitStack() as planted:
        folder = Path(planted.enter_context(tempfile.TemporaryDirectory(prefix="dispatch-canary-"))).resolve()
        token = secrets.token_hex(8)
        attempts = (
            _sockets(planted, folder, token) + _files(planted, profile, folder, token) + _kernel(profile, folder, token)
        )
        attempts += _places(profile, folder, token)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        planted.callback(os.close, descriptor)
        os.set_inheritable(descriptor, True)  # and yet it must not arrive inside
        yield attempts, _shell(folder, token) if profile.shells else [], descriptor


def _both(name: str, kind: str, /, *, required: bool = True, **arguments: object) -> Attempt:
    return Attempt(name, kind, arguments, arguments, required)


def _sockets(planted: contextlib.ExitStack, folder: Path, token: str) -> list[Attempt]:
    out = []
    # A connection succeeds by the listener's backlog alone; nothing has to accept it.
    for name, family, address, target in (
        ("loopback port", socket.AF_INET, ("127.0.0.1", 0), "inet"),
        ("loopback port (IPv6)", socket.AF_INET6, ("::1", 0), "inet6"),
        ("unix socket by path", socket.AF_UNIX, str(folder / "s"), "unix"),
        ("abstract unix socket", socket.AF_UNIX, f"\0dispatch-canary-{token}", "abstract"),
    ):
        try:
            listening = planted.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.bind(address)
            listening.listen(8)
        except OSError:
            if target != "inet6":
                raise
            continue  # a machine without IPv6
        bound = listening.getsockname()
        where: object = list(bound[:2]) if target.startswith("inet") else bound
        if target == "abstract":
            where = f"dispatch-canary-{token}"
        out.append(_both(name, "connect", family=target, address=where))
    return out


def _files(planted: contextlib.ExitStack, profile: Profile, folder: Path, token: str) -> list[Attempt]:
    secret = folder / "secret"
    secret.write_text("canary")
    out = [
        _both("planted file", "read", path=str(secret)),
        _both("planted folder", "write", path=str(folder)),
    ]
    for number, hidden in enumerate(profile.protected):
        if hidden.is_dir() and os.access(hidden, os.W_OK | os.X_OK):
            file = hidden / f".canary-{token}"
            planted.callback(file.unlink, missing_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the folder of another node that has ended meanwhile
                file.touch(mode=0o600)
            attempt = _both(f"protected folder {number + 1}", "read", path=str(file))
            out.append(replace(attempt, of=file))
        elif hidden.is_file():
            out.append(replace(_both(f"protected file {number + 1}", "read", path=str(hidden)), of=hidden))
    with contextlib.suppress(OSError, RuntimeError):
        home = Path.home().resolve()
        found = [
            path
            for place in (home / ".ssh", home)
            if place.is_dir()
            for path in sorted(place.iterdir())
            if path.is_file()
        ]
        found = [path for path in found if os.access(path, os.R_OK) and profile.inside(path) is None]
        out += [
            _both(f"file {number + 1} of the home folder", "read", path=str(path))
            for number, path in enumerate(found[:8])
        ]
    return out


def _places(profile: Profile, folder: Path, token: str) -> list[Attempt]:
    """Where a run may and may not write."""
    parent = profile.workspace.parent
    out = [_both("folder of the run", "write", path=str(parent), required=os.access(parent, os.W_OK))]
    for place in ("/", "/usr", "/usr/bin", "/etc", "/run", "/run/dispatch", "/dev", "/var", "/home", "/root"):
        out.append(_both(f"writing {place}", "write", path=place, required=False))
    for number, mount in enumerate(profile.mounts()):
        source, at, original = mount.source, mount.at, mount.original
        kind = "write" if source.is_dir() else "open_for_writing"
        if not mount.writable:
            there, here = {"path": str(source)}, {"path": str(at)}
            out.append(Attempt(f"read-only folder {number}", kind, there, here, required=os.access(source, os.W_OK)))
        if source != original:
            out.append(_both(f"what view {number} is made of", "write", path=str(source.parent)))
            if profile.outside(original) is None:  # else something is seen under that name inside
                may = os.access(original, os.W_OK)
                out.append(_both(f"original of folder {number}", kind, path=str(original), required=may))
    for name in ("sys/kernel/core_pattern", "sys/kernel/hostname", "sysrq-trigger", "kcore", "kmsg"):
        out.append(
            _both(f"/proc/{name}", "open_for_writing", path=f"/proc/{name}", required=False)
            if name != "kmsg"
            else _both("kernel log", "read", path="/dev/kmsg", required=False)
        )
    mine = {"path": str(profile.workspace / f".canary-{token}")}
    theirs = {"path": str(WORKSPACE / f".canary-{token}")}
    out.append(Attempt("workspace", "create", mine, theirs, permitted=True))
    out.append(
        Attempt(
            "setuid file",
            "setuid_file",
            {"path": str(folder / "setuid")},
            {"path": str(WORKSPACE / f".canary-setuid-{token}")},
        )
    )
    if profile.model_socket is not None:
        outside = {"family": "unix", "address": str(profile.model_socket)}
        out.append(
            Attempt("model socket", "connect", outside, {**outside, "address": str(MODEL_SOCKET)}, permitted=True)
        )
    return out


def _kernel(profile: Profile, folder: Path, token: str) -> list[Attempt]:
    allowed = [*profile.environment(), *_HARMLESS_VARIABLES]
    limits = profile.limits
    out = [
        _both(
            f"{name} namespace",
            "same_namespace",
            name=name,
            link=str(Path(f"/proc/self/ns/{name}").readlink()),
        )
        for name in _NAMESPACES
    ]
    out += [
        _both("environment of other processes", "foreign_environment", allowed=allowed),
        _both("inherited descriptors", "extra_descriptors"),
        _both("capabilities", "capabilities", required=os.geteuid() == 0),
        _both("netlink socket", "open_socket", family=16, kind=int(socket.SOCK_RAW)),
        _both("vsock socket", "open_socket", family=40, kind=int(socket.SOCK_STREAM), required=False),
        _both("kernel crypto socket", "open_socket", family=38, kind=int(socket.SOCK_SEQPACKET), required=False),
        _both("memory of other processes", "call", name="process_vm_readv"),
    ]
    out += [
        _both(name, "call", name=name, required=False)
        for name in ("keyctl", "io_uring_setup", "userfaultfd", "ptrace", "unshare")
    ]
    for name, value in (
        ("DATA", limits.data),
        ("FSIZE", limits.file_size),
        ("CPU", limits.cpu_seconds),
        ("CORE", 0),
        ("NPROC", limits.processes),
    ):
        out.append(_both(f"limit {name}", "limit_above", name=f"RLIMIT_{name}", value=value, required=False))
    for path, size in (("/tmp", limits.tmp_size), ("/dev/shm", limits.shm_size), ("/run", 1024 * 1024)):  # noqa: S108 - inside
        out.append(_both(f"size of {path}", "larger_than", path=path, size=size + 4096, required=False))
    return out


def _shell(folder: Path, token: str) -> list[Attempt]:
    """What a shell must not do to the agent program that started it."""
    # Yama may forbid a child its parent's memory outside as well, so that one is not required; the environment is.
    out = [
        Attempt(
            f"shell: {name}",
            "others",
            {"what": what, "everybody": False},
            {"what": what, "everybody": True},
            required,
        )
        for name, what, required in (
            ("the agent's memory", "mem", False),
            ("the agent's environment", "environ", True),
            ("the agent's descriptors", "fd/0", True),
            ("signals to the agent", "signal", True),
        )
    ]
    outside_socket = {"family": "unix", "address": str(folder / "s")}
    out.append(
        Attempt("shell: model socket", "connect", outside_socket, {**outside_socket, "address": str(MODEL_SOCKET)})
    )
    out.append(_both("shell: unix socket", "open_socket", family=1, kind=int(socket.SOCK_STREAM)))
    agent_home = {"path": str(HOME / f".canary-{token}")}
    out.append(Attempt("shell: the agent's home", "create", {"path": str(folder / "h")}, agent_home))
    theirs = {"path": str(WORKSPACE / f".canary-shell-{token}")}
    out.append(Attempt("shell: workspace", "create", {"path": str(folder / "w")}, theirs, permitted=True))
    return out
