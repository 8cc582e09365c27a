# ruff: noqa: PTH101, PTH108, PTH115, PTH208 - imports as little as it can
"""The program that the canaries run: makes one attempt after another and prints which succeeded. Decides nothing.

Its source runs by itself, with the standard library alone. It reads {"attempts": [...], "shell": {"launcher": [words],
"attempts": [...]}} on standard input and prints one JSON list. The shell's attempts are made by a program started
through the launcher, and aim at this process.
"""

import ctypes
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

# x86_64 and aarch64 numbers of calls Python has no function for.
_NUMBERS: dict[str, tuple[int, int]] = {
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "process_vm_readv": (310, 270),
    "ptrace": (101, 117),
    "unshare": (272, 97),
    "bpf": (321, 280),
}


Json = dict[str, Any]  # an attempt that does not fit is one that failed


def syscall(name: str, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    number = _NUMBERS[name][os.uname().machine == "aarch64"]
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def in_child(name: str, *arguments: object) -> None:
    """Make the call in a forked child, since it would change this process for good."""
    child = os.fork()
    if child == 0:
        try:
            syscall(name, *arguments)
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        raise PermissionError(name)


def read(path: str) -> None:
    with open(path, "rb") as file:  # noqa: PTH123 - this program imports as little as it can
        file.read(1)


def write(path: str) -> None:
    # An unnamed file: nothing appears in the folder even where it succeeds.
    os.close(os.open(path, os.O_TMPFILE | os.O_WRONLY, 0o600))


def create(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)


def open_for_writing(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY))


def setuid_file(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        os.chmod(path, 0o4700)
    finally:
        os.unlink(path)


def connect(family: str, address: str | list[str | int]) -> None:
    if family == "abstract":
        address = f"\0{address}"
    kind = {"unix": socket.AF_UNIX, "abstract": socket.AF_UNIX, "inet": socket.AF_INET, "inet6": socket.AF_INET6}[
        family
    ]
    with socket.socket(kind, socket.SOCK_STREAM) as attempt:
        attempt.settimeout(2)
        attempt.connect(tuple(address) if isinstance(address, list) else address)


def open_socket(family: int, kind: int) -> None:
    socket.socket(family, kind).close()


def foreign_environment(allowed: list[str]) -> None:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:  # noqa: PTH123
                    found = {item.split(b"=")[0].decode(errors="replace") for item in file.read().split(b"\0") if item}
            except OSError:
                continue
            if found - set(allowed):
                return
    raise PermissionError("only its own variables")


def extra_descriptors() -> None:
    open_now = []
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            os.fstat(number)
        except OSError:
            continue  # the one that listed them
        open_now.append(number)
    if not any(number > 2 for number in open_now):
        raise PermissionError("0, 1 and 2 only")


def same_namespace(name: str, link: str) -> None:
    if os.readlink(f"/proc/self/ns/{name}") != link:
        raise PermissionError("another one")


def capabilities() -> None:
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
        lines = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    if not int(lines["CapEff"], 16) | int(lines["CapPrm"], 16) | int(lines["CapInh"], 16):
        raise PermissionError("none")


def larger_than(path: str, size: int) -> None:
    found = os.statvfs(path)
    if found.f_blocks * found.f_frsize <= size:
        raise PermissionError("bounded")


def limit_above(name: str, value: int) -> None:
    soft = resource.getrlimit(getattr(resource, name))[0]
    if soft != resource.RLIM_INFINITY and soft <= value:
        raise PermissionError("bounded")


def call(name: str) -> None:
    zero, pointer = ctypes.c_long(0), ctypes.create_string_buffer(256)
    if name == "keyctl":  # KEYCTL_GET_KEYRING_ID of the session keyring
        syscall(name, zero, ctypes.c_long(-3), zero)
    elif name == "io_uring_setup":
        os.close(syscall(name, ctypes.c_long(1), pointer))
    elif name == "userfaultfd":  # UFFD_USER_MODE_ONLY
        os.close(syscall(name, ctypes.c_long(1)))
    elif name == "process_vm_readv":
        syscall(name, ctypes.c_long(os.getpid()), zero, zero, zero, zero, zero)
    elif name == "ptrace":  # PTRACE_TRACEME
        in_child(name, zero, zero, zero, zero)
    elif name == "unshare":  # CLONE_NEWUSER
        in_child(name, ctypes.c_long(0x10000000))


def others(everybody: bool, parent: int, what: str) -> None:
    """Open `what` of another process in /proc, or ask whether it could be signalled: of any, or only of `parent`.

    Nothing is sent: where processes are not confined, these are the machine's. The first process of a pid namespace
    takes no signal that it does not wait for.
    """
    pids = {int(name) for name in os.listdir("/proc") if name.isdigit()} if everybody else {parent}
    denied = PermissionError("nobody else is there")
    for pid in pids - ({1, os.getpid()} if what == "signal" else {os.getpid()}):
        try:
            if what == "signal":
                os.kill(pid, 0)
            else:
                os.close(os.open(f"/proc/{pid}/{what}", os.O_RDWR if what == "mem" else os.O_RDONLY))
            return
        except OSError as problem:
            denied = PermissionError(str(problem))
    raise denied


def attempt(one: Json, parent_pid: int) -> dict[str, object]:
    try:
        arguments = dict(one["arguments"])
        if one["kind"] == "others":
            arguments["parent"] = parent_pid
        KINDS[one["kind"]](**arguments)
    except Exception as problem:
        return {"name": one["name"], "reached": False, "detail": f"{type(problem).__name__}: {problem}"[:200]}
    return {"name": one["name"], "reached": True, "detail": ""}


KINDS: dict[str, Callable[..., None]] = {
    "read": read,
    "write": write,
    "create": create,
    "open_for_writing": open_for_writing,
    "setuid_file": setuid_file,
    "connect": connect,
    "open_socket": open_socket,
    "foreign_environment": foreign_environment,
    "extra_descriptors": extra_descriptors,
    "same_namespace": same_namespace,
    "capabilities": capabilities,
    "larger_than": larger_than,
    "limit_above": limit_above,
    "call": call,
    "others": others,
}


def main() -> None:
    asked = json.load(sys.stdin)
    out = [attempt(one, int(asked.get("parent", 0))) for one in asked["attempts"]]
    if "shell" in asked:
        words = [*asked["shell"]["launcher"], sys.executable, "-ISB", "-c", asked["source"]]
        question = json.dumps({"attempts": asked["shell"]["attempts"], "parent": os.getpid()})
        answer = subprocess.run(words, input=question, capture_output=True, text=True, timeout=20, check=False)
        if answer.returncode != 0:
            sys.stderr.write(answer.stderr)
            sys.exit(3)
        out += json.loads(answer.stdout)
    sys.stdout.write(json.dumps(out))


if __name__ == "__main__":
    main()
