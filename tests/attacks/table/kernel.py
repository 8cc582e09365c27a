# ruff: noqa: PTH115, PTH116, PTH123, PTH110
"""Interfaces of the kernel: namespaces, mounts, keys, tracing, modules, shared memory."""

import ctypes
import os
from typing import Any

from tests.attacks.inside import SHELL, absent, attack, checked, libc, syscall

NEWUSER, NEWNS, NEWNET = 0x10000000, 0x20000, 0x40000000
BUFFER = 256


def zeros(size: int = BUFFER) -> Any:
    return ctypes.create_string_buffer(size)


@attack("ENOSYS")
def tracing_a_child(a: Any) -> None:
    child = os.fork()
    if child == 0:
        try:
            syscall("ptrace", 0, 0, 0, 0)  # PTRACE_TRACEME
        except OSError as problem:
            os._exit(problem.errno or 1)
        os._exit(0)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise OSError(number, "ptrace")


@attack("ENOSYS")
def reading_memory_by_call(a: Any) -> None:
    syscall("process_vm_readv", os.getpid(), 0, 0, 0, 0, 0)


@attack("ENOSYS", machine=True)
def comparing_descriptors_of_processes(a: Any) -> None:
    syscall("kcmp", os.getpid(), os.getpid(), 0, 0, 0)


@attack("ENOSYS", machine=True)
def the_keyring_of_the_session(a: Any) -> None:
    syscall("keyctl", 0, -3, 1, 0, 0)


@attack("ENOSYS", machine=True)
def a_key_added(a: Any) -> None:
    syscall("add_key", b"user", b"dispatch-attack", b"x", 1, -2)


@attack("ENOSYS", machine=True)
def a_ring_for_io(a: Any) -> None:
    os.close(syscall("io_uring_setup", 1, zeros()))


@attack("ENOSYS", machine=True)
def faults_handled_in_user_space(a: Any) -> None:
    os.close(syscall("userfaultfd", 1))


@attack("ENOSYS", root_only=True, machine=True)
def a_program_in_the_kernel(a: Any) -> None:
    attributes = zeros()
    attributes[0:16] = (2).to_bytes(4, "little") + (4).to_bytes(4, "little") * 2 + (1).to_bytes(4, "little")
    os.close(syscall("bpf", 0, attributes, 72))  # BPF_MAP_CREATE of an array


@attack("ENOSYS", machine=True)
def counting_events_of_the_processor(a: Any) -> None:
    attributes = zeros()
    attributes[0:8] = (1).to_bytes(4, "little") + (112).to_bytes(4, "little")
    attributes[40:48] = (0x62).to_bytes(8, "little")  # disabled, exclude_kernel, exclude_hv
    os.close(syscall("perf_event_open", attributes, 0, -1, -1, 0))


@attack("ENOSYS", machine=True)
def a_user_namespace_by_unshare(a: Any) -> None:
    syscall("unshare", NEWUSER)


@attack("ENOSYS", machine=True)
def a_user_namespace_by_clone(a: Any) -> None:
    child = syscall("clone", NEWUSER | 17, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


@attack("ENOSYS")
def a_process_by_clone3(a: Any) -> None:
    words = (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17)
    child = syscall("clone3", words, ctypes.sizeof(words))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


@attack("ENOSYS", root_only=True)
def the_namespaces_of_another(a: Any) -> None:
    syscall("setns", os.open("/proc/self/ns/uts", os.O_RDONLY), 0)


@attack("ENOSYS", root_only=True)
def a_mount(a: Any) -> None:
    if a.side == "outside":
        syscall("unshare", NEWNS)
        syscall("mount", b"none", b"/", None, 0x44000, None)  # private
    syscall("mount", b"none", os.fsencode(a.workspace), b"tmpfs", 0, None)


@attack("ENOSYS", root_only=True)
def a_mount_taken_away(a: Any) -> None:
    if a.side == "outside":
        a_mount(a)
        syscall("umount2", os.fsencode(a.workspace), 2)
    else:
        syscall("umount2", os.fsencode(a.project), 2)


@attack("ENOSYS", root_only=True)
def a_tree_of_mounts_copied(a: Any) -> None:
    os.close(syscall("open_tree", -100, b"/", 1))


@attack("ENOSYS", root_only=True)
def a_file_system_opened(a: Any) -> None:
    os.close(syscall("fsopen", b"tmpfs", 0))


@attack("ENOSYS", root_only=True)
def mount_flags_changed(a: Any) -> None:
    if a.side == "outside":
        a_mount(a)
    syscall("mount_setattr", -100, os.fsencode(a.workspace), 0, (ctypes.c_uint64 * 4)(0, 1), 32)


@attack("ENOSYS", untestable="it would change the root of the machine")
def pivot_root(a: Any) -> None:
    syscall("pivot_root", b"/", b"/")


@attack("ENOSYS", root_only=True)
def chroot(a: Any) -> None:
    syscall("chroot", b"/")


@attack("ENOSYS", untestable="a success would load a kernel")
def kexec(a: Any) -> None:
    syscall("kexec_load", 0, 0, 0, 0)


@attack("ENOSYS", untestable="a success would load a module")
def a_module_loaded(a: Any) -> None:
    syscall("init_module", zeros(), 1, b"")


@attack("ENOSYS", untestable="a success would load a module")
def a_module_loaded_from_a_file(a: Any) -> None:
    syscall("finit_module", os.open("/usr/bin/env", os.O_RDONLY), b"", 0)


@attack("ENOSYS", untestable="a success would end the machine")
def reboot(a: Any) -> None:
    syscall("reboot", 0xFEE1DEAD, 672274793, 0, 0)


@attack("ENOSYS")
def memory_made_executable_when_read(a: Any) -> None:
    syscall("personality", 0x0400000)


@attack("ENOSYS")
def shared_memory_of_the_machine(a: Any) -> None:
    syscall("shmget", a.ipc_key, 0, 0)


@attack("ENOSYS")
def semaphores_of_the_machine(a: Any) -> None:
    syscall("semget", a.ipc_key, 0, 0)


@attack("ENOSYS")
def messages_of_the_machine(a: Any) -> None:
    syscall("msgget", a.ipc_key, 0)


@attack("absent")
def shared_memory_of_the_machine_listed(a: Any) -> None:
    with open("/proc/sysvipc/shm", encoding="ascii") as file:
        if not any(line.split()[0] == str(a.ipc_key) for line in file):
            absent("not listed")


@attack("ENOSYS", machine=True)
def a_queue_by_name(a: Any) -> None:
    os.close(syscall("mq_open", b"dispatch-attack", os.O_RDWR | os.O_CREAT, 0o600, None))
    libc().syscall(241 if os.uname().machine == "x86_64" else 181, b"dispatch-attack")


@attack("ENOSYS", root_only=True)
def the_clock_of_the_machine(a: Any) -> None:
    import time

    now = time.time()
    syscall("clock_settime", 0, (ctypes.c_long * 2)(int(now), int(now % 1 * 1e9)))


@attack("ENOSYS", root_only=True)
def the_name_of_the_machine_set(a: Any) -> None:
    syscall("sethostname", os.fsencode(a.hostname), len(a.hostname))


@attack("absent")
def the_name_of_the_machine(a: Any) -> None:
    if os.uname().nodename != a.hostname:
        absent(os.uname().nodename)


@attack("ENOSYS", root_only=True)
def the_log_of_the_kernel(a: Any) -> None:
    syscall("syslog", 3, zeros(), BUFFER)


@attack("ENOSYS", root_only=True, machine=True)
def everything_that_happens_to_files(a: Any) -> None:
    os.close(syscall("fanotify_init", 0, 0))


@attack("absent", machine=True)
def capabilities(a: Any) -> str:
    with open("/proc/self/status", encoding="ascii") as file:
        lines = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    if not int(lines["CapEff"], 16) | int(lines["CapPrm"], 16) | int(lines["CapInh"], 16):
        absent("none")
    return lines["CapEff"]


@attack("EPERM|EINVAL", root_only=True)
def becoming_root(a: Any) -> None:
    if a.side == "inside" and os.getuid() == 0:
        return
    os.setresuid(0, 0, 0)


@attack("absent")
def privileges_by_a_setuid_program(a: Any) -> None:
    with open("/proc/self/status", encoding="ascii") as file:
        if "NoNewPrivs:\t1" in file.read():
            absent("no_new_privs")


def _namespace(name: str) -> Any:
    def attempt(a: Any) -> None:
        if os.readlink(f"/proc/self/ns/{name}") != a.namespaces[name]:
            absent("another one")

    attempt.__name__ = f"the_{name}_namespace_of_the_machine"
    attempt.__module__ = __name__
    return attempt


for _name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"):
    attack("absent")(_namespace(_name))


@attack("ENOENT")
def a_device_of_the_machine(a: Any) -> None:
    os.stat("/dev/kmsg" if os.path.exists("/dev/kmsg") else "/dev/mem")


@attack("EROFS", places=(SHELL,))
def a_domain_loosened_by_a_second_one(a: Any) -> None:
    """A Landlock domain entered later only narrows, and mounts hold in any."""
    rules = (ctypes.c_uint64 * 3)(1 << 8, 0, 0)  # MAKE_REG
    ruleset = checked(
        libc().syscall(ctypes.c_long(444), rules, ctypes.c_size_t(24), ctypes.c_uint32(0)), "create ruleset"
    )

    class Beneath(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))

    beneath = Beneath(1 << 8, os.open(a.agent_home, os.O_PATH))
    checked(libc().syscall(ctypes.c_long(445), ruleset, 1, ctypes.byref(beneath), 0), "add rule")
    libc().prctl(38, 1, 0, 0, 0)
    checked(libc().syscall(ctypes.c_long(446), ruleset, 0), "restrict self")
    os.close(os.open(f"{a.agent_home}/loosened", os.O_WRONLY | os.O_CREAT, 0o600))


@attack("EACCES|ENOENT", places=(SHELL,))
def a_domain_left_by_a_program_in_memory(a: Any) -> None:
    """A program without a name, which to what AppArmor confines does not exist."""
    writing = os.open(a.tmp, os.O_TMPFILE | os.O_RDWR, 0o700)
    with open("/usr/bin/touch", "rb") as file:
        os.write(writing, file.read())
    program = os.open(f"/proc/self/fd/{writing}", os.O_RDONLY)
    os.close(writing)
    child = os.fork()
    if child == 0:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        os.execve(program, ["touch", f"{a.agent_home}/by-memory"], {})
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(13, "touch")


@attack("absent", places=(SHELL,))
def filters_replaced_by_weaker_ones(a: Any) -> None:
    """Filters add up: one that allows everything changes nothing."""
    program = ctypes.create_string_buffer(bytes([6, 0, 0, 0, 0, 0, 255, 127]))  # return ALLOW

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    libc().prctl(38, 1, 0, 0, 0)
    syscall("seccomp", 1, 0, ctypes.byref(Filter(1, ctypes.cast(program, ctypes.c_void_p))))
    try:
        syscall("personality", 0x0400000)
    except OSError:
        absent("still closed")
