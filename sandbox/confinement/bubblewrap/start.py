"""Starting a profile under bubblewrap: finding the program, opening what is bound, handing descriptors over.

bwrap's arguments are argv.py's; what a started tree can be asked is process.py's.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import trio

from sandbox import programs
from sandbox.confinement import machine
from sandbox.confinement.bubblewrap import landlock, seccomp, shell_launcher
from sandbox.confinement.bubblewrap.argv import (
    LANDLOCK_MODULE,
    PROC_HIDDEN,
    PROC_READ_ONLY,
    SHELL_FILTER,
    SHELL_SETTINGS,
    Descriptors,
    Host,
    arguments,
    environment_arguments,
)
from sandbox.confinement.bubblewrap.process import BubblewrapProcess
from sandbox.confinement.bubblewrap.rlimits import killed_first_when_out_of_memory, prlimit_prefix
from sandbox.confinement.bubblewrap.watchdog import Watchdog
from sandbox.confinement.given import FOLDER_OR_FILE, open_given
from sandbox.confinement.places import HOME, SHELL_HOME, SHELL_LAUNCHER
from sandbox.confinement.profile import Profile, Root
from sandbox.errors import SandboxError

_ETC_FILES = {
    "passwd": "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
    f"agent:x:1000:1000:agent:{HOME}:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}

Alter = Callable[[list[str]], list[str]]
"""Takes bwrap's arguments and returns other ones. A test shows with it that the canaries notice."""


def find_bwrap() -> str:
    """The bwrap program. Raises SandboxError 503 with the fix where it is missing."""
    found = programs.find("bwrap").path
    if not found:
        machine.check()
    return found


def check_machine() -> None:
    """Raise SandboxError 503 unless kernel, user and installation have what the full profile needs. Starts nothing."""
    if (found := landlock.abi()) < landlock.REQUIRED_ABI:
        raise SandboxError(
            f"this kernel's Landlock is version {found}; shells of a run need version {landlock.REQUIRED_ABI}"
            if found
            else "this kernel has no Landlock, which shells of a run need",
            fix="boot Linux 6.12 or later, with `landlock` in the lsm= list (cat /sys/kernel/security/lsm)",
        )
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
        proc_read_only=tuple(name for name in PROC_READ_ONLY if Path("/proc", name).exists()),
        proc_hidden=tuple(name for name in PROC_HIDDEN if Path("/proc", name).exists()),
        store=store,
        store_links=store_links,
    )


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
    """Start `argv` confined by `profile`, with exactly `env`.

    `stdin` and the others: PIPE, DEVNULL or a descriptor, as subprocess takes them. Call it from the main thread: the
    kernel kills the tree when the *thread* that forked bwrap ends, not the process. `alter` is for tests alone. Raises
    SandboxError where the profile cannot be built; a failure of bwrap itself shows as exit status 1 and a line on
    stderr.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("confined processes are started from the main thread only")
    program = find_bwrap()
    python_program, python_runtime = _interpreter()
    profile = replace(
        profile, runtime=(*profile.runtime, *(part for part in python_runtime if part not in profile.runtime))
    )
    watchdog = await trio.to_thread.run_sync(_watchdog, profile)
    try:
        with contextlib.ExitStack() as opened:
            info, info_writer = os.pipe2(os.O_CLOEXEC)
            opened.callback(os.close, info_writer)
            unread = opened.enter_context(contextlib.ExitStack())
            unread.callback(os.close, info)
            given = _open_all(profile, python_program, opened)
            words = ["--info-fd", str(info_writer), *arguments(profile, host_layout(), given)]
            words += environment_arguments(env)
            if alter is not None:
                words = alter(words)
            # Not on the command line, which every user of this machine can read, and the run at its pid 1.
            listed = _memory_file(b"".join(os.fsencode(word) + b"\0" for word in words), opened)
            with killed_first_when_out_of_memory():
                started = subprocess.Popen(  # noqa: ASYNC220 - in this very thread, see above; takes 2 ms
                    [program, "--args", str(listed), "--", *prlimit_prefix(profile.limits), *argv],
                    env={},
                    cwd="/",
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    close_fds=True,
                    pass_fds=[listed, info_writer, *given.binds.values(), *given.data.values(), *given.filters],
                    start_new_session=True,
                )
            process = BubblewrapProcess(started, watchdog)
            try:
                watchdog.begin(started.pid, info)
            except BaseException:
                started.kill()  # never unwatched
                raise
            unread.pop_all()
    except BaseException:
        watchdog.close()
        raise
    return process


def _watchdog(profile: Profile) -> Watchdog:
    if unviewed := [root.path for root in profile.roots if root.writable and root.view is None]:
        raise SandboxError(f"{unviewed[0]} has no view, and no run writes what is the person's", code=500)
    written = [root.view.written for root in profile.roots if root.view is not None]
    own = [folder for folder in (profile.workspace, profile.home, *written) if folder is not None]
    try:
        return Watchdog(profile.limits, tmpfs=profile.in_memory(), folders=own)
    except OSError as problem:
        raise SandboxError(f"{problem.filename} cannot be shown to the run: {problem.strerror}", code=422) from problem


def _open_all(profile: Profile, python_program: str, opened: contextlib.ExitStack) -> Descriptors:
    sources = [mount.source for mount in profile.mounts()] + [part.path for part in profile.runtime]
    binds: dict[Path, int] = {}
    for source in sources:
        if source not in binds:
            binds[source] = _open(source, FOLDER_OR_FILE, opened)
    if profile.model_socket is not None:
        binds[profile.model_socket] = _open(profile.model_socket, (stat.S_ISSOCK,), opened)
    arch = seccomp.architecture()
    files = {Path("/etc", name): text.encode() for name, text in _ETC_FILES.items()}
    files[SHELL_LAUNCHER] = f"#!{python_program} -ISB\n{inspect.getsource(shell_launcher)}".encode()
    files[LANDLOCK_MODULE] = inspect.getsource(landlock).encode()
    files[SHELL_FILTER] = seccomp.shell_filter(arch)
    files[SHELL_SETTINGS] = json.dumps(
        {"writable": _shell_writable(profile), "filter": str(SHELL_FILTER), "home": str(SHELL_HOME)}
    ).encode()
    return Descriptors(
        binds=binds,
        data={at: _memory_file(content, opened) for at, content in files.items()},
        filters=[_memory_file(code, opened) for code in seccomp.filters(arch)],
    )


def _shell_writable(profile: Profile) -> list[str]:
    """Inside paths below which a shell may write: everything writable but the agent program's own home."""
    folders = [mount.at for mount in profile.mounts() if mount.writable and mount.at != HOME]
    return [*map(str, folders), str(SHELL_HOME), "/tmp", "/dev"]  # noqa: S108 - inside


def _open(path: Path, kinds: Sequence[Callable[[int], bool]], opened: contextlib.ExitStack) -> int:
    descriptor = open_given(path, kinds)
    opened.callback(os.close, descriptor)
    return descriptor


def _memory_file(content: bytes, opened: contextlib.ExitStack) -> int:
    descriptor = os.memfd_create("dispatch")
    opened.callback(os.close, descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
