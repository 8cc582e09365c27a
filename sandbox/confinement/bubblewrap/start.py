"""Starting a profile under bubblewrap: the agent's sandbox, and beside it the shell zone for its shell commands.

bwrap's arguments are argv.py's, opening what they name is opening.py's; what a started program can be asked is
process.py's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from sandbox import programs
from sandbox.confinement import machine
from sandbox.confinement.bubblewrap import seccomp
from sandbox.confinement.bubblewrap.argv import (
    PROC_HIDDEN,
    ZONE_SERVER,
    Host,
    Side,
    arguments,
    environment_arguments,
)
from sandbox.confinement.bubblewrap.opening import memory_file, open_all
from sandbox.confinement.bubblewrap.process import BubblewrapProcess
from sandbox.confinement.bubblewrap.rlimits import killed_first_when_out_of_memory, prlimit_prefix
from sandbox.confinement.bubblewrap.watchdog import Watchdog
from sandbox.confinement.bubblewrap.zone import ShellZone
from sandbox.confinement.given import open_given
from sandbox.confinement.profile import Profile, Root
from sandbox.errors import SandboxError

Alter = Callable[[list[str]], list[str]]
"""Takes bwrap's arguments, of either sandbox, and returns other ones. A test shows with it that the canaries notice."""


def find_bwrap() -> str:
    """The bwrap program. Raises SandboxError 503 with the fix where it is missing."""
    found = machine.bubblewrap().path
    if not found:
        machine.check()
    return found


def check_machine() -> None:
    """Raise SandboxError 503 unless kernel, user and installation have what the full profile needs. Starts nothing."""
    seccomp.filters()
    _interpreter()
    machine.check()


def python() -> str:
    """The Python that programs inside run with. It has the same path inside and outside."""
    return _interpreter()[0]


def _interpreter() -> tuple[str, tuple[Root, ...]]:
    """(program, folders to bind for it) of this Python's base installation, never of a virtual environment."""
    program = Path(os.path.realpath(sys.executable))
    prefix = Path(os.path.realpath(sys.base_prefix))
    if not program.is_relative_to(prefix) or len(str(program)) > 200 or any(ch.isspace() for ch in str(program)):
        raise SandboxError(
            f"the Python at {program} cannot run inside a sandbox",
            fix="install dispatch with the system's python3",
        )
    return str(program), () if prefix.is_relative_to("/usr") else (Root(prefix),)


def host_layout() -> Host:
    """What `arguments` needs to know of this machine."""
    links, folders = [], []
    read_only, hidden = machine_wide(Path("/proc"))
    store, store_links = _store()
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            links.append((str(path.readlink()), str(path)))
        elif path.is_dir() and not any(Path(link).parent == path for _, link in store_links):
            folders.append(str(path))
    return Host(
        usr_links=tuple(links),
        usr_folders=tuple(folders),
        proc_read_only=read_only,
        proc_hidden=hidden,
        store=store,
        store_links=store_links,
    )


def machine_wide(proc: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(read-only, hidden): what `proc` has beside the folders of processes, which is the machine's and no sandbox's.

    A process of host uid 0 could write there: core_pattern and sysrq-trigger take over or reboot the host. Which
    entries there are differs by kernel, so the kernel is asked: every folder and every file with a bit to write is
    read-only, and what its owner alone may read (kcore, the kernel's log) is hidden.
    """
    read_only, hidden = [], []
    for entry in sorted(proc.iterdir()):
        if entry.name.isdigit():
            continue
        try:
            mode = entry.lstat().st_mode
        except FileNotFoundError:  # of a module that was just unloaded
            continue
        if stat.S_ISLNK(mode):
            continue
        if entry.name in PROC_HIDDEN or not mode & (stat.S_IROTH | 0o222):
            hidden.append(entry.name)
        elif stat.S_ISDIR(mode) or mode & 0o222:
            read_only.append(entry.name)
    return tuple(read_only), tuple(hidden)


def _store() -> tuple[str, tuple[tuple[str, str], ...]]:
    """(/nix/store, links into it) where this system's programs live there, as NixOS has them; ("", ()) elsewhere.

    The whole of it is seen: every user of such a machine reads it, and each program needs others in it. Its /bin has
    no bash, which agents start shell commands with, so that folder is made anew.
    """
    bash = os.path.realpath(programs.find("bash").path)
    if not bash.startswith("/nix/store/"):
        return "", ()
    links = [(bash, "/bin/bash"), (bash, "/bin/sh")]
    if (system := Path("/run/current-system")).exists():
        links.append((os.path.realpath(system), str(system)))
    return "/nix/store", tuple(links)


async def spawn(
    profile: Profile,
    argv: Sequence[str],
    env: Mapping[str, str],
    /,
    *,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    alter: Alter | None = None,
) -> BubblewrapProcess:
    """Start `argv` confined by `profile`, with exactly `env`, and the shell zone if `profile` has shells.

    `stdin` and the others: PIPE, DEVNULL or a descriptor, as subprocess takes them. Call it from the main thread: the
    kernel kills the tree when the *thread* that forked bwrap ends, not the process. `alter` is for tests alone. Raises
    SandboxError where the profile cannot be built; a failure of bwrap itself shows as exit status 1 and a line on
    stderr, or in `BubblewrapProcess.zone_errors`.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("confined processes are started from the main thread only")
    _, python_runtime = _interpreter()
    profile = replace(
        profile, runtime=(*profile.runtime, *(part for part in python_runtime if part not in profile.runtime))
    )
    watchdog = await trio.to_thread.run_sync(_watchdog, profile)
    started: list[_Started] = []
    zone: ShellZone | None = None
    try:
        with contextlib.ExitStack() as opened:
            zone_socket = None
            if profile.shells:
                listening, path = _zone_socket(profile, opened)
                zone = ShellZone(path)
                zone_socket = open_given(path, (stat.S_ISSOCK,))
                opened.callback(os.close, zone_socket)
                with zone.other_end() as control:
                    passed = [listening.fileno(), control]
                    words = [python(), "-ISB", str(ZONE_SERVER), *map(str, passed)]
                    streams = (subprocess.DEVNULL, subprocess.DEVNULL, zone.errors)
                    started.append(
                        _start("shells", profile, words, profile.environment(), streams, alter=alter, passed=passed)
                    )
            streams = (stdin, stdout, stderr)
            started.append(_start("agent", profile, argv, env, streams, alter=alter, zone_socket=zone_socket))
        process = BubblewrapProcess(started[-1].process, watchdog, zone, [one.process for one in started[:-1]])
        watchdog.begin([(one.process.pid, one.info) for one in reversed(started)])
    except BaseException:
        for one in started:  # never unwatched
            one.process.kill()
            one.process.wait()
        if zone is not None:
            zone.close()
        watchdog.close()
        raise
    return process


def _watchdog(profile: Profile) -> Watchdog:
    if unviewed := [root.path for root in profile.roots if root.writable and root.view is None]:
        raise SandboxError(f"{unviewed[0]} has no view, and a run never writes to the original", code=500)
    written = [root.view.written for root in profile.roots if root.view is not None]
    own = [folder for folder in (profile.workspace, profile.home, *written) if folder is not None]
    try:
        return Watchdog(profile.limits, tmpfs=profile.in_memory(), folders=own)
    except OSError as problem:
        raise SandboxError(f"{problem.filename} cannot be shown to the run: {problem.strerror}", code=422) from problem


@dataclass(frozen=True)
class _Started:
    """One of a run's two sandboxes. `info`: where bwrap tells the process id of its child."""

    process: subprocess.Popen[bytes]
    info: int


def _start(
    side: Side,
    profile: Profile,
    argv: Sequence[str],
    env: Mapping[str, str],
    streams: tuple[int, int, int],
    *,
    alter: Alter | None,
    zone_socket: int | None = None,
    passed: Sequence[int] = (),
) -> _Started:
    """Start one sandbox. `passed`: descriptors that `argv` inherits."""
    with contextlib.ExitStack() as opened:
        info, info_writer = os.pipe2(os.O_CLOEXEC)
        opened.callback(os.close, info_writer)
        unread = opened.enter_context(contextlib.ExitStack())
        unread.callback(os.close, info)
        given = open_all(profile, side, python(), opened, zone_socket)
        words = ["--info-fd", str(info_writer), *arguments(profile, host_layout(), given, side)]
        words += environment_arguments(env)
        if alter is not None:
            words = alter(words)
        # Not on the command line, which every user of this machine can read, and the run at its pid 1.
        listed = memory_file(b"".join(os.fsencode(word) + b"\0" for word in words), opened)
        with killed_first_when_out_of_memory():
            started = subprocess.Popen(
                [find_bwrap(), "--args", str(listed), "--", *prlimit_prefix(profile.limits), *argv],
                env={},
                cwd="/",
                stdin=streams[0],
                stdout=streams[1],
                stderr=streams[2],
                close_fds=True,
                pass_fds=[listed, info_writer, *given.all(), *passed],
                start_new_session=True,
            )
        unread.pop_all()
    return _Started(started, info)


def _zone_socket(profile: Profile, opened: contextlib.ExitStack) -> tuple[socket.socket, Path]:
    """A listening socket in the run's folder, and its path. The listener is closed here once the zone has it."""
    folder = profile.workspace.parent
    path = folder / f"shells-{secrets.token_hex(8)}.sock"
    listening = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # By the descriptor: a socket's path has at most 107 bytes (unix(7)), and a state folder's may have more.
        listening.bind(f"/proc/self/fd/{descriptor}/{path.name}")
    except OSError as problem:
        raise SandboxError(f"{folder}: {problem.strerror}", code=503) from problem
    finally:
        os.close(descriptor)
    listening.listen(64)
    return listening, path
