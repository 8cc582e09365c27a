"""The first process of the shell zone: runs the shell commands of an agent, each in a session of its own.

Its source runs by itself, with the standard library and landlock.py. The zone is a sandbox beside the agent's: it sees
the same files but neither the agent program's processes, memory and sockets nor, for writing, its home. So what a shell
can do to the agent program does not depend on what the kernel's Landlock can forbid; where there is one, each command
gets a domain of its own all the same, which keeps it from the memory of the others.

This process has PR_SET_DUMPABLE 0, so that no shell reads or writes it, and as the first of its pid namespace it is
sent no signal that it has no handler for. It never blocks on what a command or a launcher does.

The launcher (shell_launcher.py) connects to `listening` and sends "start" with four descriptors: the command's three
standard streams and a pipe with the request. Then each byte from it is a signal for the command's process group, its
end is SIGKILL, and the answer is the exit status as a big-endian int32, negative for a signal.

dp-agent sends words on `control` and gets one answer each: "stop", while a file is written that a person was asked
about: "stopped N", N processes there are, none of which runs until "go", or "running" where one could not be stopped.
"go": "going". "count": "there are N".

Where commands may reach a network, the first thing that dp-agent gets is "proxy" with a socket that listens on loopback
in here: dp-agent accepts what commands connect to it.
"""

import ctypes
import importlib
import json
import os
import select
import signal
import socket
import stat
import struct
import sys
import time
from contextlib import suppress
from typing import TypedDict

SETTINGS = "/run/dispatch/shells.json"
CONNECTIONS = 256
"""Launchers at once. One that comes on top is turned away."""
REQUEST_BYTES = 8 * 1024 * 1024
"""Of arguments and environment; the kernel takes 6 MiB."""
_STOPPED_WITHIN = 2.0
"""Seconds. A process in an uninterruptible wait does not stop before it is over."""
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL}
_CLOSE_ON_EXEC = 0x40000000  # MSG_CMSG_CLOEXEC
_PR_SET_DUMPABLE = 4


class Settings(TypedDict):
    """`writable`: paths for a Landlock domain, None for none. `home`: $HOME of commands. `bash`: the shell.

    `variables`: of commands alone. `proxy_port`: of loopback, where commands find a proxy; 0 for none.
    """

    writable: list[str] | None
    home: str
    bash: str
    variables: dict[str, str]
    proxy_port: int


class Zone:
    """The server. `listening`, `control`: as above."""

    def __init__(self, listening: socket.socket, control: socket.socket, settings: Settings) -> None:
        self._listening = listening
        self._control = control
        self._settings = settings
        self._launchers: dict[int, socket.socket] = {}
        self._commands: dict[int, int] = {}
        """Process id of a command → descriptor of its launcher."""
        self._stopped_before: set[int] | None = None
        # Python's own handler writes to it, so that poll returns.
        self._ended, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._poll, self._poll_while_stopped = select.poll(), select.poll()
        for descriptor in (control.fileno(), self._ended):
            self._poll.register(descriptor, select.POLLIN)
            self._poll_while_stopped.register(descriptor, select.POLLIN)
        self._poll.register(listening.fileno(), select.POLLIN)

    def serve(self) -> None:
        """Until dp-agent closes `control`."""
        while True:
            poll = self._poll if self._stopped_before is None else self._poll_while_stopped
            for descriptor, _ in poll.poll():
                if descriptor == self._ended:
                    os.read(self._ended, 4096)
                    self._reap()
                elif descriptor == self._control.fileno():
                    if not self._obey():
                        return
                elif self._stopped_before is not None:
                    continue  # just stopped
                elif descriptor == self._listening.fileno():
                    self._accept()
                elif descriptor in self._launchers:
                    self._hear(descriptor)

    # --- launchers

    def _accept(self) -> None:
        launcher, _ = self._listening.accept()
        if len(self._launchers) >= CONNECTIONS:
            launcher.close()
            return
        launcher.setblocking(False)
        self._launchers[launcher.fileno()] = launcher
        self._poll.register(launcher.fileno(), select.POLLIN)

    def _hear(self, descriptor: int) -> None:
        launcher = self._launchers[descriptor]
        command = next((pid for pid, its in self._commands.items() if its == descriptor), None)
        try:
            said, given, _, _ = socket.recv_fds(launcher, 16, 4, _CLOSE_ON_EXEC)
        except BlockingIOError:
            return
        except OSError:
            said, given = b"", []
        if command is None and said == b"start" and len(given) == 4:
            self._start(launcher, given)
        elif command is not None and len(said) == 1 and said[0] in _SIGNALS:
            _signal_group(command, said[0])
        elif not said:
            if command is not None:
                _signal_group(command, signal.SIGKILL)
                del self._commands[command]
            self._forget(descriptor)
        for one in given:
            os.close(one)

    def _start(self, launcher: socket.socket, given: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError:  # the run has all the processes that it may have
            self._forget(launcher.fileno())
            return
        if pid == 0:
            _become_command(given, self._settings)
        self._commands[pid] = launcher.fileno()

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._launchers.pop(descriptor).close()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            descriptor = self._commands.pop(pid, None)
            if descriptor is not None:
                with suppress(OSError):  # the launcher has gone meanwhile
                    self._launchers[descriptor].send(struct.pack("!i", os.waitstatus_to_exitcode(status)))
                self._forget(descriptor)

    # --- stopping all of them

    def _obey(self) -> bool:
        word = self._control.recv(16)  # b"" at its end
        if word == b"stop" and self._stopped_before is None:
            answer = self._stop()
        elif word == b"count":
            answer = f"there are {len(_others())}"
        elif word == b"go" and self._stopped_before is not None:
            self._go()
            answer = "going"
        else:
            return False
        self._control.send(answer.encode())
        return True

    def _stop(self) -> str:
        self._stopped_before = {pid for pid in _others() if _has_stopped(pid)}
        deadline = time.monotonic() + _STOPPED_WITHIN
        while time.monotonic() < deadline:
            # One signal to all: the kernel lets no fork slip through beside it.
            _signal_all(signal.SIGSTOP)
            for _ in range(50):
                others = _others()
                if all(_has_stopped(pid) for pid in others):
                    # New launchers wait, and no command is left that could be in the middle of something.
                    return f"stopped {len(others)}"
                time.sleep(0.001)
            # A process waits for what it has forked by vfork(2) to exec, and that is stopped: once more.
            self._continue()
        self._go()
        return "running"

    def _go(self) -> None:
        self._continue()
        self._stopped_before = None

    def _continue(self) -> None:
        for pid in _others() - (self._stopped_before or set()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _signal_group(leader: int, number: int) -> None:
    # Just forked, it may not lead a group yet; not reaped, no other process can have its number.
    for send in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            send(leader, number)
            return


def _signal_all(number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(-1, number)


def _others() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}  # noqa: PTH208


def _has_stopped(pid: int) -> bool:
    """Whether no thread of it runs: stopped, dead, or gone (proc_pid_stat(5))."""
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                if file.read().rpartition(")")[2].split()[0] not in "TtZXx":
                    return False
    except OSError:
        return not os.path.exists(f"/proc/{pid}")  # noqa: PTH110
    return True


def _become_command(given: list[int], settings: Settings) -> None:
    """In the child: read the request and become it. Never returns."""
    try:
        os.setsid()
        for number in range(3):
            os.dup2(given[number], number)
        request = os.dup2(given[3], 3)
        os.closerange(4, 65536)
        words = _read(request).split(b"\0")
        os.close(request)
        if words.pop() != b"":
            raise EOFError("the request broke off")
        kind, folder, count = words[:3]
        end = 3 + int(count)
        command, environment = words[3:end], dict(word.split(b"=", 1) for word in words[end:])
        for name, value in {**settings["variables"], "HOME": settings["home"]}.items():
            environment[os.fsencode(name)] = os.fsencode(value)
        if kind == b"shell":
            command = [os.fsencode(settings["bash"]), b"-c", *command]
        os.chdir(folder)
        if settings["writable"] is not None:
            # The agent program may have its commands write into files of its own, which lie in none of these folders.
            files = [number for number in range(3) if stat.S_ISREG(os.fstat(number).st_mode)]
            sys.modules["landlock"].restrict([*settings["writable"], *files])
        signal.set_wakeup_fd(-1)
        # What Python ignores stays ignored through exec: a writer into a closed pipe would not end.
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
    except BaseException as problem:
        os.write(2, f"this shell could not be confined: {problem!r}\n".encode())
        os._exit(126)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606
    except BaseException as problem:
        said = getattr(problem, "strerror", None) or repr(problem)
        os.write(2, command[0] + f": {said}\n".encode() if command else b"no command\n")
    os._exit(127)


def _read(pipe: int) -> bytes:
    out = bytearray()
    while piece := os.read(pipe, 65536):
        out += piece
        if len(out) > REQUEST_BYTES:
            raise ValueError("the command and its environment are too long")
    return bytes(out)


def _give_listener(control: socket.socket, port: int) -> None:
    """Have dp-agent listen on loopback in here: a socket stays in the network namespace that it was made in."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        socket.send_fds(control, [b"proxy"], [listener.fileno()])


def main() -> None:
    if os.getpid() != 1:
        sys.exit("the shell zone has no process namespace of its own")  # and "stop" would reach this machine's
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        sys.exit("the shell zone could not be closed to its shells")
    with open(SETTINGS, encoding="utf-8") as file:  # noqa: PTH123
        settings = json.load(file)
    if settings["writable"] is not None:
        sys.path.insert(0, os.path.dirname(SETTINGS))  # noqa: PTH120
        importlib.import_module("landlock")  # once, not in each command
    listening, control = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    if settings["proxy_port"]:
        _give_listener(control, settings["proxy_port"])
    Zone(listening, control, settings).serve()


if __name__ == "__main__":
    main()
