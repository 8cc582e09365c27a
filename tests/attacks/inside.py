# ruff: noqa: PTH123, PTH208 - imports as little as it can
"""What attempts are made of, and the program that makes them: in a sandbox, and outside as their control. Runs alone.

It reads {"modules": {name: source}, "places": [...], "names": [...], "arguments": {...}, "launcher": [words]} on
standard input and prints {place: {name: [outcome, detail]}}. It plays the agent program: the attempts of the place
`agent` are children of it, those of `shell` are children of a shell that it starts through the launcher, with it as
what they attack.
"""

import ctypes
import errno
import json
import os
import select
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

REACHED = "reached"
SECONDS = 10
AGENT, SHELL = "agent", "shell"
AGENTS_MARK, MARK = "plays the agent program", "plays a shell of it"
"""Last words on the command lines of the two."""
BOTH = (AGENT, SHELL)


@dataclass(frozen=True)
class Attack:
    """One attempt. `refused`: the errno's name, the signal's, or `absent`, by place.

    `untestable`: why it cannot succeed outside, else "". `root_only`: outside only root can. `machine`: outside it
    depends on what this kernel has. `ordinary_only`: not made as root, and why.
    """

    name: str
    kind: str
    attempt: Callable[[Any], object]
    refused: dict[str, str]
    untestable: str = ""
    root_only: bool = False
    machine: bool = False
    ordinary_only: str = ""


ATTACKS: dict[str, Attack] = {}


def attack(refused: str, *, shell: str = "", places: tuple[str, ...] = BOTH, **more: Any) -> Callable[[Any], Any]:
    """Register the function as an attempt, named by its module and itself."""

    def register(attempt: Callable[[Any], object]) -> Callable[[Any], object]:
        kind = attempt.__module__.rpartition(".")[2]
        name = f"{kind}: {attempt.__name__.replace('_', ' ')}"
        assert name not in ATTACKS, name
        answers = {place: shell if place == SHELL and shell else refused for place in places}
        ATTACKS[name] = Attack(name, kind, attempt, answers, **more)
        return attempt

    return register


class Absent(Exception):
    """There is nothing there to attack."""


def absent(why: str) -> None:
    raise Absent(why)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(4096)


def write(path: str, text: str = "x") -> None:
    """Open for writing, without making or truncating anything."""
    os.close(os.open(path, os.O_WRONLY))


def create(path: str) -> None:
    """Make a file that is not there yet."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


_NUMBERS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "unshare": (272, 97),
    "clone": (56, 220),
    "clone3": (435, 435),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "kexec_load": (246, 104),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "personality": (135, 92),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "swapon": (167, 224),
    "settimeofday": (170, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "acct": (163, 89),
    "syslog": (103, 116),
    "memfd_secret": (447, 447),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "prlimit64": (302, 261),
    "openat": (257, 56),
    "seccomp": (317, 277),
}


def libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def syscall(name: str, *arguments: Any) -> int:
    """Make the call, every plain number as a long. Raises OSError."""
    number = _NUMBERS[name][os.uname().machine == "aarch64"]
    words = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(libc().syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def checked(result: int, what: str) -> int:
    """The result of one of libc's own functions. Raises OSError."""
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


# -- making attempts ----------------------------------------------------------------------------------------------


def made(one: Attack, arguments: dict[str, Any]) -> tuple[str, str]:
    """Make it in a child of its own and say what became of it: (outcome, detail)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            detail = one.attempt(types.SimpleNamespace(**arguments))
            outcome = (REACHED, str(detail)[:200])
        except Absent as why:
            outcome = ("absent", str(why)[:200])
        except OSError as problem:
            outcome = (errno.errorcode.get(problem.errno or 0, str(problem)), str(problem)[:200])
        except MemoryError as problem:
            outcome = ("ENOMEM", str(problem)[:200])
        except BaseException as problem:
            outcome = (type(problem).__name__, str(problem)[:200])
        os.write(writing, json.dumps(outcome).encode())
        os._exit(0)
    os.close(writing)
    try:
        if not select.select([reading], [], [], SECONDS)[0]:
            os.kill(child, signal.SIGKILL)
            return "hung", ""
        answer = os.read(reading, 65536)
    finally:
        os.close(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not answer:
        return (signal.Signals(-status).name if status < 0 else f"status {status}"), ""
    outcome, detail = json.loads(answer)
    return str(outcome), str(detail)


def load(modules: dict[str, str]) -> Any:
    """Import modules from their sources, and return the first, which is this one anew: they registered there."""
    for name, source in modules.items():
        for above in range(1, name.count(".") + 1):
            folder = ".".join(name.split(".")[:above])
            sys.modules.setdefault(folder, types.ModuleType(folder))
        module = types.ModuleType(name)
        sys.modules[name] = module
        exec(compile(source, name, "exec"), module.__dict__)
    return sys.modules[next(iter(modules))]


def the_agent() -> int:
    """The process id of the one that started this shell, by its command line; one that nobody has where it is hidden.

    By no number that it could tell: in another pid namespace that is somebody else's.
    """
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if AGENTS_MARK.encode() in words and not words[0].endswith(b"bwrap"):
                return int(name)
    return 2**22 - 1


def main() -> None:
    asked = json.load(sys.stdin)
    arguments = dict(asked["arguments"])
    table = load(asked["modules"])
    table.SECONDS = asked["seconds"]
    made = table.made
    chosen = [one for name, one in table.ATTACKS.items() if name in asked["names"]]
    out = {}
    if AGENT in asked["places"]:
        arguments["agent"] = os.getpid()
        out[AGENT] = {one.name: made(one, arguments) for one in chosen if AGENT in one.refused}
        if asked["once"]:  # a control need succeed once
            chosen = [one for one in chosen if AGENT not in one.refused]
    if SHELL in asked["places"] and MARK in sys.argv:
        arguments["agent"] = the_agent()
        out[SHELL] = {one.name: made(one, arguments) for one in chosen if SHELL in one.refused}
    elif SHELL in asked["places"]:
        words = [*asked["launcher"], sys.executable, "-ISB", "-c", asked["modules"]["tests.attacks.inside"], MARK]
        libc().prctl(0x59616D61, ctypes.c_long(-1), 0, 0, 0)  # Yama, which is not what is tested here, permits
        question = json.dumps({**asked, "places": [SHELL], "names": [one.name for one in chosen]})
        done = subprocess.run(
            words, input=question, capture_output=True, text=True, check=False, start_new_session=True
        )
        if done.returncode != 0:
            sys.stderr.write(done.stderr)
            sys.exit(3)
        out |= json.loads(done.stdout)
    sys.stdout.write(json.dumps(out))


if __name__ == "__main__":
    main()
