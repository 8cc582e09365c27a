"""Starting our programs without loading them anew each time: a process that has loaded them forks one for each start.

Loading is most of what the start of a daemon, of an MCP server or of a command costs, and a suite starts hundreds. What
runs is the same: a process of its own, in a session of its own, with the arguments, environment, folder and streams it
was given.
What a start loads, refuses, or does before all is loaded is tested with programs that are started the usual way.

Run as a module this file is that process. One for each process that runs tests; it ends with it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

MODULES = ("peer.programs.daemon", "mcp_plugin.main", "cli.main", "rendezvous.main", "rendezvous.relay.main")
"""The programs that are started so."""
LOADED = (
    *("peer.programs.serving", "mcp_plugin.serving", "mcp_plugin.server"),
    *("cli.commands", "cli.listing", "cli.display", "cli.follow_run", "peer.store.reader", "peer.trust.receipts"),
    *("rendezvous.program", "rendezvous.serving", "rendezvous.broker", "rendezvous.mail", "rendezvous.relay_access"),
    *("rendezvous.storage.sqlite", "rendezvous.relay.serving", "rendezvous.relay.relay", "rendezvous.relay.contacts"),
)
"""What they load; not they themselves, which are run."""
ROOT = Path(__file__).parents[2]
_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000


# --- the side of the tests


class Preloader:
    """The process that forks, as whoever starts programs sees it. Dead when the thread that made it is."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.address = f"\0dispatch-preloaded-{os.getpid()}-{secrets.token_hex(8)}"
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.system.preloaded", self.address[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=dict(environment),
            cwd=ROOT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"


_ours: list[Preloader] = []


def begin(environment: Mapping[str, str]) -> None:
    """From here on start programs so, in this process of tests. To be called in its main thread."""
    if not _ours:
        _ours.append(Preloader(environment))


def start(
    module: str,
    arguments: Sequence[str] = (),
    *,
    environment: Mapping[str, str],
    cwd: Path,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int,
    inside: Sequence[str] = (),
    as_usual: bool = False,
) -> Forked | subprocess.Popen[bytes]:
    """Start one of our programs in a session of its own, dead when this process is.

    `inside`: a command that puts it into other surroundings, such as `unshare`. `stdin`: subprocess.DEVNULL, PIPE or a
    descriptor. `stdout`: PIPE or a descriptor. `stderr`: a descriptor. It is forked if it can be: not where another
    PYTHONPATH, or LD_PRELOAD, has something else loaded, in surroundings other than a network of its own, nor
    `as_usual`, for whoever looks at what /proc says of it: environment and command line are there those of the process
    that forked it.
    """
    network = _network_of(inside)
    forkable = not inside or bool(network)
    if _ours and forkable and not as_usual and module in MODULES and _loads_the_same(environment):
        given = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        return Forked(_ours[0], module, arguments, environment=environment, cwd=cwd, network=network, **given)
    return subprocess.Popen(
        [*inside, "setpriv", "--pdeathsig", "KILL", sys.executable, "-m", module, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=dict(environment),
        cwd=cwd,
        start_new_session=True,
    )


def _loads_the_same(environment: Mapping[str, str]) -> bool:
    return environment.get("PYTHONPATH") == str(ROOT) and "LD_PRELOAD" not in environment


def _network_of(inside: Sequence[str]) -> str:
    """Return the path of the network namespace that this command enters (nsenter(1)), "" if it does something else."""
    if len(inside) == 3 and inside[0] == "nsenter" and inside[1].startswith("--net=") and inside[2] == "--":
        return inside[1].removeprefix("--net=")
    return ""


def command(module: str, environment: Mapping[str, str]) -> list[str]:
    """Return the command that starts one of our programs, for whoever starts it by a command."""
    if _ours and module in MODULES and _loads_the_same(environment):
        relay = Path(__file__).with_name("relay.py")
        return [sys.executable, "-SE", str(relay), _ours[0].address[1:], module]
    return [sys.executable, "-m", module]


class Forked:
    """One program: as much of subprocess.Popen as the tests use."""

    def __init__(
        self,
        preloader: Preloader,
        module: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path,
        stdin: int,
        stdout: int,
        stderr: int,
        network: str = "",
    ) -> None:
        self.args = [module, *arguments]
        self.returncode: int | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(preloader.address)
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        ours = []
        if stdin == subprocess.PIPE:
            stdin, writing = os.pipe()
            self.stdin = os.fdopen(writing, "wb")
            ours.append(stdin)
        elif stdin == subprocess.DEVNULL:
            stdin = os.open(os.devnull, os.O_RDONLY)
            ours.append(stdin)
        if stdout == subprocess.PIPE:
            reading, stdout = os.pipe()
            self.stdout = os.fdopen(reading, "rb")
            ours.append(stdout)
        asked = {"module": module, "arguments": list(arguments), "environment": dict(environment)}
        asked |= {"cwd": str(cwd), "network": network}
        socket.send_fds(self._socket, [json.dumps(asked).encode()], [stdin, stdout, stderr])
        for descriptor in ours:
            os.close(descriptor)
        self.pid = int(self._socket.recv(100))

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._look(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def _look(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._socket], [], [], seconds)[0]:
            self.returncode = int(self._socket.recv(100) or -signal.SIGKILL)  # nothing: the preloader was killed
            self._socket.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# --- the side that forks


def serve(address: str) -> dict[str, Any]:
    """Fork a process for each request. Returns in the forked process alone, with the request, its streams in place."""
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()
    awake, wakeup = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(wakeup, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(64)
    running: dict[int, socket.socket] = {}
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        clients = {client.fileno(): pid for pid, client in running.items()}
        ready, _, _ = select.select([listener.fileno(), awake, *clients], [], [])
        if awake in ready:
            os.read(awake, 4096)
            _reap(running)
        for left in clients.keys() & set(ready):  # no client says anything more: this one is gone
            if (pid := clients[left]) in running:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                running.pop(pid).close()
        if listener.fileno() not in ready:
            continue
        client, _ = listener.accept()
        message, streams, _, _ = socket.recv_fds(client, 1 << 20, 3)
        asked = json.loads(message)
        os.chdir(asked["cwd"])  # before anybody learns that it runs: the folder may be taken away
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _become(asked, streams)
        for descriptor in streams:
            os.close(descriptor)
        running[pid] = client
        with contextlib.suppress(OSError):
            client.send(str(pid).encode())


def _reap(running: dict[int, socket.socket]) -> None:
    """Pass on how each process that ended did."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        client = running.pop(pid)
        with contextlib.suppress(OSError):  # whoever asked may be gone
            client.send(str(os.waitstatus_to_exitcode(status)).encode())
        client.close()


def _become(asked: dict[str, Any], streams: list[int]) -> dict[str, Any]:
    os.setsid()
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.closerange(3, 1024)
    if asked.get("network"):  # relay.py asks for none
        network = os.open(asked["network"], os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(network, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(network)
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[0] = asked["cwd"]
    sys.argv[1:] = asked["arguments"]
    return asked


def _run(module: str) -> None:
    """Run a program, to its end and this process's."""
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        code = ended.code or 0
    # As the interpreter does it, but for what comes then: taking apart all that was loaded is most of a command's time.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _run(serve(f"\0{sys.argv[1]}")["module"])
