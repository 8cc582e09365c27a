"""Opening all that a sandbox is given, before it is built, so that nothing can be swapped in between."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from sandbox.confinement.bubblewrap import landlock, seccomp, shell_launcher, zone_server
from sandbox.confinement.bubblewrap.argv import (
    LANDLOCK_MODULE,
    ZONE_SERVER,
    ZONE_SETTINGS,
    Descriptors,
    Side,
)
from sandbox.confinement.given import FOLDER_OR_FILE, open_given
from sandbox.confinement.places import HOME, PROXY_PORT, SHELL_HOME, SHELL_LAUNCHER, TMP
from sandbox.confinement.profile import Profile

_ETC_FILES: Final = {
    "passwd": "root:x:0:0:root:/nonexistent:/usr/sbin/nologin\n"
    f"agent:x:1000:1000:agent:{HOME}:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


def open_all(
    profile: Profile, side: Side, python_program: str, opened: contextlib.ExitStack, zone_socket: int | None
) -> Descriptors:
    """Open what `profile` shows on this side; `opened` closes it."""
    sources = [mount.source for mount in profile.mounts()] + [part.path for part in profile.runtime]
    binds: dict[Path, int] = {}
    for source in sources:
        if source not in binds:
            binds[source] = _open(source, FOLDER_OR_FILE, opened)
    if profile.model_socket is not None and side == "agent":
        binds[profile.model_socket] = _open(profile.model_socket, (stat.S_ISSOCK,), opened)
    arch = seccomp.architecture()
    filters = [*seccomp.filters(arch)]
    files = {Path("/etc", name): text.encode() for name, text in _ETC_FILES.items()}
    files |= profile.files
    if side == "shells":
        filters.append(seccomp.shell_filter(arch))
        files[ZONE_SERVER] = inspect.getsource(zone_server).encode()
        files[LANDLOCK_MODULE] = inspect.getsource(landlock).encode()
        files[ZONE_SETTINGS] = json.dumps(_zone_settings(profile)).encode()
    else:
        files[SHELL_LAUNCHER] = f"#!{python_program} -ISB\n{inspect.getsource(shell_launcher)}".encode()
    return Descriptors(
        binds=binds,
        data={at: memory_file(content, opened) for at, content in files.items()},
        filters=[memory_file(code, opened) for code in filters],
        zone_socket=zone_socket,
    )


def memory_file(content: bytes, opened: contextlib.ExitStack) -> int:
    """A descriptor at the beginning of a file with this content, which has no name."""
    descriptor = os.memfd_create("dispatch")
    opened.callback(os.close, descriptor)
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _zone_settings(profile: Profile) -> dict[str, object]:
    """Where a shell may write: everything writable but the agent program's own home."""
    folders = [str(mount.at) for mount in profile.mounts() if mount.writable and mount.at != HOME]
    writable = [*folders, str(SHELL_HOME), str(TMP), "/dev"]
    has_landlock = landlock.abi() >= landlock.LEAST_ABI
    return {
        "writable": writable if has_landlock else None,
        "home": str(SHELL_HOME),
        "bash": "/bin/bash",
        "variables": dict(profile.shell_variables),
        "proxy_port": PROXY_PORT if profile.network else 0,
    }


def _open(path: Path, kinds: Sequence[Callable[[int], bool]], opened: contextlib.ExitStack) -> int:
    descriptor = open_given(path, kinds)
    opened.callback(os.close, descriptor)
    return descriptor
