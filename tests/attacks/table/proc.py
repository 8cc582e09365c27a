# ruff: noqa: PTH115, PTH116, PTH208, PTH110
"""Other processes and the kernel's settings, through /proc."""

import os
from typing import Any

from tests.attacks.inside import SHELL, Absent, absent, attack, read, write


@attack("ENOENT")
def environment_of_another_program(a: Any) -> None:
    assert a.secret.encode() in read(f"/proc/{a.victim}/environ")


@attack("ENOENT")
def memory_of_another_program(a: Any) -> None:
    os.close(os.open(f"/proc/{a.victim}/mem", os.O_RDWR))


@attack("ENOENT")
def descriptors_of_another_program(a: Any) -> None:
    os.close(os.open(f"/proc/{a.victim}/fd/1", os.O_WRONLY))


@attack("ENOENT")
def maps_of_another_program(a: Any) -> None:
    read(f"/proc/{a.victim}/maps")


@attack("ENOENT")
def folder_of_another_program(a: Any) -> None:
    read(f"/proc/{a.victim}/cwd/id_ed25519")


@attack("ENOENT")
def root_of_another_program(a: Any) -> None:
    read(f"/proc/{a.victim}/root{a.home}/.ssh/id_ed25519")


@attack("ESRCH")
def a_signal_to_another_program(a: Any) -> None:
    os.kill(a.victim, 0)


@attack("ENOENT", shell="EACCES")
def secrets_through_the_root_of_the_first_process(a: Any) -> None:
    root = "/proc/self/root" if a.side == "outside" else "/proc/1/root"
    read(f"{root}{a.home}/.ssh/id_ed25519")


@attack("absent", shell="absent")
def environment_of_the_first_process(a: Any) -> None:
    pids = [a.victim] if a.side == "outside" else [int(name) for name in os.listdir("/proc") if name.isdigit()]
    for pid in pids:
        try:
            if a.secret.encode() in read(f"/proc/{pid}/environ"):
                return
        except OSError:
            continue
    absent("no secret in any environment")


@attack("absent")
def the_list_of_the_persons_programs(a: Any) -> None:
    for name in os.listdir("/proc"):
        if (
            name.isdigit()
            and b"PR_SET_PTRACER" not in (said := read(f"/proc/{name}/cmdline"))
            and b"0x59616d61" in said
        ):
            return
    absent("not listed")


@attack("absent")
def inherited_descriptors(a: Any) -> None:
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith(a.base):
            return
    absent("none of the machine's files")


@attack("EROFS", root_only=True)
def core_pattern(a: Any) -> None:
    write("/proc/sys/kernel/core_pattern")


@attack("EROFS", root_only=True)
def modprobe_path(a: Any) -> None:
    write("/proc/sys/kernel/modprobe" if os.path.exists("/proc/sys/kernel/modprobe") else "/proc/sys/kernel/panic")


@attack("EROFS", root_only=True, machine=True)
def sysrq(a: Any) -> None:
    write("/proc/sysrq-trigger")


@attack("EACCES|EROFS", root_only=True, machine=True)
def memory_of_the_kernel(a: Any) -> None:
    if not read("/proc/kcore"):
        raise Absent("empty")


@attack("absent", machine=True)
def anything_else_writable_in_proc(a: Any) -> str:
    found = []
    for folder, names, files in os.walk("/proc"):
        if folder == "/proc":
            names[:] = [name for name in names if not name.isdigit() and name not in ("self", "thread-self", "net")]
        for name in files:
            path = f"{folder}/{name}"
            # Namespaced settings of the sandbox's own network are read-only as well; only asked, never written.
            if os.access(path, os.W_OK) and not os.stat(path).st_rdev:
                found.append(path)
    if not found:
        absent("nothing")
    return " ".join(found[:10])


@attack("ENOENT", places=(SHELL,))
def memory_of_the_agent(a: Any) -> None:
    os.close(os.open(f"/proc/{a.agent}/mem", os.O_RDWR))


@attack("ENOENT", places=(SHELL,))
def environment_of_the_agent(a: Any) -> None:
    assert b"AGENT_SECRET" in read(f"/proc/{a.agent}/environ")


@attack("ENOENT", places=(SHELL,))
def maps_of_the_agent(a: Any) -> None:
    read(f"/proc/{a.agent}/maps")


@attack("ENOENT", places=(SHELL,))
def folder_of_the_agent(a: Any) -> None:
    os.listdir(f"/proc/{a.agent}/cwd/")


@attack("ENOENT", places=(SHELL,))
def root_of_the_agent(a: Any) -> None:
    os.listdir(f"/proc/{a.agent}/root/")


@attack("ENOENT", places=(SHELL,))
def threads_of_the_agent(a: Any) -> None:
    os.close(os.open(f"/proc/{a.agent}/task/{a.agent}/mem", os.O_RDWR))


@attack("ENOENT", places=(SHELL,))
def where_descriptors_of_the_agent_lead(a: Any) -> None:
    os.readlink(f"/proc/{a.agent}/fd/0")


@attack("EACCES", places=(SHELL,))
def memory_of_the_first_process(a: Any) -> None:
    # For reading: a shell writes nothing below /proc.
    os.close(os.open(f"/proc/{a.agent if a.side == 'outside' else 1}/mem", os.O_RDONLY))
