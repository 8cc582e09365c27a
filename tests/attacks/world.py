"""A person's machine for attacks: what a run may see, and beside it everything it must not reach. Judges nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sandbox import frames
from sandbox.confinement import Profile, Root
from sandbox.confinement.places import HOME, MODEL_SOCKET, WORKSPACE
from sandbox.run import grants
from sandbox.run.folder import RunFolder
from sandbox.runtimes.claude.runtime import ClaudeRuntime
from tests.sandbox.conftest import NO_OVERLAY, viewed

SECRET = "a-secret-of-this-machine"
TOOLS = ["Bash", "Edit", "Glob", "Grep", "Read", "Write"]
_IPC_CREAT, _IPC_RMID = 0o1000, 0


@dataclass(frozen=True)
class World:
    """`arguments`: what attempts are told, ``outside`` and ``inside``. `profile`: as dp-agent builds it."""

    base: Path
    profile: Profile
    project: Path
    outside: dict[str, Any]
    inside: dict[str, Any]
    inherited: int


@contextlib.contextmanager
def planted(*, no_overlay: str = NO_OVERLAY) -> Iterator[World]:
    """Make the machine for a while. Not in /tmp, which every run has as its own. `no_overlay`: why views are copies."""
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dispatch-attacks-", dir="/var/tmp")))
        base = base.resolve()
        base.chmod(0o755)
        start, run_dir, claude = _folders(base)
        profile = grants.profile(start, run_dir, programs=claude, model=True)
        reading = Root(base / "home/reading")
        profile = stack.enter_context(viewed(replace(profile, roots=(*profile.roots, reading)), no_overlay=no_overlay))
        shared = {"base": str(base), "secret": SECRET, "home": str(base / "home"), **_sockets(stack, base, run_dir)}
        shared |= _victim(stack, base) | _system_v(stack) | _machine()
        descriptor = os.open(base / "home/.ssh/id_ed25519", os.O_RDONLY)
        stack.callback(os.close, descriptor)
        os.set_inheritable(descriptor, True)  # must not arrive inside in spite of that
        project = base / "home/project"
        outside = {
            "side": "outside",
            "project": str(_copy_of(project)),
            "folder": str(base / "home/folder"),
            "reading": str(base / "home/reading"),
            "workspace": str(base / "outside"),
            "agent_home": str(base / "outside/agent-home"),
            "shell_home": str(base / "outside"),
            "tmp": str(base / "outside"),
            "shm": str(base / "outside"),
            "model": str(run_dir.socket),
            "system": str(base / "outside/system"),
        }
        inside = {
            "side": "inside",
            "project": str(project),
            "folder": str(base / "home/folder"),
            "reading": str(base / "home/reading"),
            "workspace": str(WORKSPACE),
            "agent_home": str(HOME),
            "shell_home": "/run/home/shell",
            "tmp": "/tmp",
            "shm": "/dev/shm",
            "model": str(MODEL_SOCKET),
            "system": "/usr/bin",
        }
        yield World(base, profile, project, shared | outside, shared | inside, descriptor)


def _folders(base: Path) -> tuple[frames.Start, RunFolder, Any]:
    home = base / "home"
    run_dir = RunFolder(home / ".dispatch/runs/1")
    for name in ("home/.ssh", "home/folder", "home/reading", "neighbour", "outside/agent-home"):
        (base / name).mkdir(parents=True)
    run_dir.path.mkdir(parents=True)
    (base / "outside/system").mkdir()
    (base / "outside/system/shell").touch()
    for secret in (
        ".dispatch/device.key",
        ".dispatch/local.token",
        ".dispatch/store.db",
        ".ssh/id_ed25519",
        ".bash_history",
    ):
        (home / secret).write_text(SECRET)
    (base / "neighbour/diary").write_text(SECRET)
    project = home / "project"
    for name in (".git/hooks", ".vscode", "deep/er/.git/hooks", "deep/.cursor", "upper/.GIT"):
        (project / name).mkdir(parents=True)
    for name, text in (
        (".git/config", "[core]\n"),
        (".git/HEAD", "ref: refs/heads/main\n"),
        (".vscode/tasks.json", "{}"),
        ("deep/er/.git/config", "[core]\n"),
        ("deep/.envrc", "true\n"),
        ("deep/.cursor/mcp.json", "{}"),
        ("deep/.npmrc", ""),
        ("deep/.nvim.lua", ""),
        ("deep/AGENTS.md", "Be careful.\n"),
        ("CLAUDE.md", "Be careful.\n"),
        (".bashrc", "true\n"),
        (".mcp.json", "{}"),
        ("code.py", "print()\n"),
    ):
        (project / name).write_text(text)
    (project / "way-out").symlink_to(home / ".ssh/id_ed25519")
    start = frames.Start(
        dispatch_id="0196f0c0-0000-7000-8000-000000000001",
        attempt=1,
        sender="mallory@example.org",
        task="x",
        runtime="claude",
        tools=TOOLS,
        paths=[str(project), str(home / "folder")],
        approval="auto",
        cwd=str(project),
        run_dir=str(run_dir.path),
        protected=[str(home / ".dispatch"), str(home / ".ssh")],
    )
    run_dir.make([])
    (run_dir.home / ".claude.json").write_text("{}")
    (base / "outside/agent-home/.claude.json").write_text("{}")
    return start, run_dir, ClaudeRuntime().programs()


def _copy_of(project: Path) -> Path:
    """What attempts may ruin outside."""
    copy = project.parents[1] / "outside/project"
    shutil.copytree(project, copy, symlinks=True)
    for name in (".claude", ".idea"):
        (copy / name).mkdir()
    return copy


def _sockets(stack: contextlib.ExitStack, base: Path, run_dir: RunFolder) -> dict[str, Any]:
    """Listening ones: their backlog accepts, and nobody need answer."""

    def listening(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> Any:
        made = stack.enter_context(socket.socket(family, kind))
        made.bind(address)
        if kind == socket.SOCK_STREAM:
            made.listen(64)
        return made.getsockname()

    abstract = base.name
    listening(socket.AF_UNIX, f"\0{abstract}")
    listening(socket.AF_UNIX, str(base / "bus"))
    listening(socket.AF_UNIX, str(run_dir.socket))
    listening(socket.AF_UNIX, str(run_dir.workspace / "docker.sock"))
    listening(socket.AF_UNIX, str(run_dir.workspace / "log.sock"), socket.SOCK_DGRAM)
    for name in ("docker.sock", "log.sock"):
        os.link(run_dir.workspace / name, base / "outside" / name)
    out = {
        "port": listening(socket.AF_INET, ("127.0.0.1", 0))[1],
        "udp": listening(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM)[1],
        "abstract": abstract,
        "bus": str(base / "bus"),
        "port6": 0,
    }
    with contextlib.suppress(OSError):  # a machine without IPv6
        out["port6"] = listening(socket.AF_INET6, ("::1", 0))[1]
    return out


def _victim(stack: contextlib.ExitStack, base: Path) -> dict[str, Any]:
    """Another program of the same person, with a secret in its environment and its memory."""
    program = "import ctypes, sys; ctypes.CDLL(None).prctl(0x59616d61, -1, 0, 0, 0); print('up'); sys.stdin.read()"
    process = stack.enter_context(
        subprocess.Popen(
            [sys.executable, "-ISBuc", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"ATTACKED": SECRET},
            cwd=base / "home/.ssh",
        )
    )
    stack.callback(process.kill)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    return {"victim": process.pid}


def _system_v(stack: contextlib.ExitStack) -> dict[str, Any]:
    library = ctypes.CDLL(None, use_errno=True)
    out: dict[str, Any] = {"ipc_key": secrets.randbelow(1 << 30) + 1}
    for name, arguments in (("shm", (4096,)), ("sem", (1,)), ("msg", ())):
        found = getattr(library, f"{name}get")(out["ipc_key"], *arguments, _IPC_CREAT | 0o600)
        assert found >= 0, name
        out[name + "_id"] = found
        remove = getattr(library, f"{name}ctl")
        stack.callback(remove, found, *((0, _IPC_RMID) if name == "sem" else (_IPC_RMID, 0)))
    return out


def _machine() -> dict[str, Any]:
    return {
        "hostname": os.uname().nodename,
        "namespaces": {name: str(Path("/proc/self/ns", name).readlink()) for name in _NAMESPACES},
        "session": os.getsid(0),
    }


_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
