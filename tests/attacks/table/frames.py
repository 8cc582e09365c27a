# ruff: noqa: PTH123
"""A shell forging what the agent says to its supervisor, or stopping it."""

import ctypes
import os
import signal
from pathlib import Path
from typing import Any

from tests.attacks.inside import SHELL, absent, attack, libc, syscall


@attack("ENOENT", places=(SHELL,))
def words_on_the_output_of_the_agent(a: Any) -> None:
    os.close(os.open(f"/proc/{a.agent}/fd/1", os.O_WRONLY))


@attack("ENOENT", places=(SHELL,))
def reading_the_input_of_the_agent(a: Any) -> None:
    os.close(os.open(f"/proc/{a.agent}/fd/0", os.O_RDONLY | os.O_NONBLOCK))


@attack("ESRCH", places=(SHELL,))
def a_descriptor_taken_from_the_agent(a: Any) -> None:
    os.close(syscall("pidfd_getfd", os.pidfd_open(a.agent), 1, 0))


@attack("ENOSYS", places=(SHELL,))
def memory_of_the_agent_written_by_call(a: Any) -> None:
    syscall("process_vm_writev", a.agent, 0, 0, 0, 0, 0)


@attack("ENOSYS", places=(SHELL,))
def tracing_the_agent(a: Any) -> None:
    syscall("ptrace", 0x4206, a.agent, 0, 0)  # PTRACE_SEIZE


@attack("ESRCH", places=(SHELL,))
def a_signal_to_the_agent(a: Any) -> None:
    os.kill(a.agent, 0)


@attack("ESRCH", places=(SHELL,))
def a_signal_to_the_agent_by_pidfd(a: Any) -> None:
    signal.pidfd_send_signal(os.pidfd_open(a.agent), 0)


@attack("absent", places=(SHELL,))
def ending_the_first_process(a: Any) -> None:
    """The one that starts the shells: what ends it ends all of them, and would be missed in every later attempt."""
    first = 1 if a.side == "inside" else os.fork()
    if first == 0:
        signal.pause()
    if a.side == "inside":
        with open("/proc/1/cmdline", encoding="utf-8") as file:
            assert "zone_server" in file.read(), "not this machine's"
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGSTOP, signal.SIGKILL):
        os.kill(first, number)
    if a.side == "inside":
        with open("/proc/1/stat", encoding="ascii") as file:
            state = file.read().rpartition(")")[2].split()[0]
        if state in "RS":
            absent("it takes none of them")
    else:
        os.waitpid(first, 0)


@attack("ESRCH", places=(SHELL,))
def limits_of_the_agent_lowered(a: Any) -> None:
    old = (ctypes.c_uint64 * 2)()
    syscall("prlimit64", a.agent, 4, None, old)  # RLIMIT_CORE, which harms nobody
    syscall("prlimit64", a.agent, 4, (ctypes.c_uint64 * 2)(0, old[1]), None)


_TYPING = Path("/proc/sys/dev/tty/legacy_tiocsti")
_CLOSED = _TYPING.exists() and _TYPING.read_text().strip() == "0" and os.geteuid() != 0


@attack("EPERM", untestable="this kernel permits it to root alone" if _CLOSED else "")
def typing_into_a_terminal(a: Any) -> None:
    import fcntl
    import pty

    child, master = pty.fork()
    if child == 0:
        try:
            fcntl.ioctl(0, 0x5412, b"x")
        except OSError as problem:
            os._exit(problem.errno or 1)
        os._exit(0)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(master)
    if number:
        raise OSError(number, "TIOCSTI")


@attack("EPERM", untestable="only a terminal of the machine's console pastes")
def pasting_into_a_console(a: Any) -> None:
    import fcntl
    import pty

    master, slave = pty.openpty()
    assert master
    fcntl.ioctl(slave, 0x541C, b"\x02")


@attack("absent")
def the_session_of_the_supervisor(a: Any) -> None:
    if os.getsid(0) not in (0, a.session):
        absent("a session of its own")


@attack("SIGSYS", untestable="this kernel may have no 32-bit calls, and none is wanted outside", places=(SHELL,))
def calls_by_the_32_bit_door(a: Any) -> None:
    _machine_code(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret


@attack("SIGSYS", untestable="kernels are built without the x32 calls", places=(SHELL,))
def calls_by_the_x32_door(a: Any) -> None:
    libc().syscall(ctypes.c_long(0x40000000 + 39))


def _machine_code(code: bytes) -> None:
    import mmap

    if os.uname().machine != "x86_64":
        os.kill(os.getpid(), signal.SIGSYS)  # that door is x86_64's alone
    flags, prot = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    page = mmap.mmap(-1, 4096, flags=flags, prot=prot)
    page.write(code)
    ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
