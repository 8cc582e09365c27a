"""The system-call filters of a confined run, compiled by libseccomp for x86_64 and aarch64. bwrap loads them.

There are two, since the kernel applies the strictest result and so each stays simple: `ALLOWED` is an allow-list, so
that a call the kernel gains tomorrow is closed today; the second refuses single arguments of allowed calls. Arguments
that the kernel reads as 32 bits are compared under a 32-bit mask: comparing all 64 let CVE-2019-10063 through.

A third, smaller one is for shells started by the agent: they get no unix sockets, so that only the agent program itself
can use the model socket (Landlock cannot restrict pathname sockets before ABI 9).
"""

from __future__ import annotations

import errno
import functools
import os
import platform
import tempfile

from sandbox.confinement.libseccomp import Filter, Library, load_library
from sandbox.errors import SandboxError

AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
_SOCK_DGRAM, _SOCK_RAW, _SOCK_TYPE_MASK = 2, 3, 0xF
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
# NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_CLONE_NAMESPACES = 0x80 | 0x20000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_WORD = 0xFFFFFFFF
_MAP_SHARED, _MAP_TYPE, _MAP_ANONYMOUS = 0x1, 0xF, 0x20
_TMPFILE = 0o20000000  # the bit that is O_TMPFILE's alone; os.O_TMPFILE holds O_DIRECTORY as well
_PER_LINUX, _ADDR_NO_RANDOMIZE, _QUERY = 0x0, 0x0040000, _WORD

# What ordinary programs (shells, compilers, interpreters, git, the claude program) use. Left out on purpose, among
# others: ptrace, process_vm_*, pidfd_getfd, kcmp; keyctl and its family; io_uring_*; userfaultfd; bpf; perf_event_open;
# mount, unshare, setns, chroot and the new mount API; *_by_handle_at; openat2 (its mode is behind a pointer); System V
# and POSIX message queues, semaphores and shared memory, memfd_create, and splice, vmsplice and tee, whose pipes hold
# whole pages of files that are gone (memory that no rlimit bounds and the watchdog cannot see); clone3 (its flags are
# behind a pointer: glibc falls back to clone); clock and module calls.
ALLOWED = """
accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_getres
clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
execve execveat exit exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2
fchown fchownat fcntl fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync
ftruncate futex futex_waitv futimesat getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups
getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit
get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getxattr
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl ioprio_get ioprio_set kill
landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat listen
listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise membarrier mincore mkdir
mkdirat mknod mknodat mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap nanosleep
newfstatat open openat pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll
ppoll prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pwrite64 pwritev pwritev2 read
readahead readlink readlinkat readv recvfrom recvmmsg recvmsg remap_file_pages removexattr rename renameat
renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_getaffinity sched_getattr sched_getparam
sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select sendfile sendmmsg sendmsg sendto
setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid setresuid setreuid
setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid setxattr shutdown
sigaltstack signalfd signalfd4 stat statfs statx symlink symlinkat sync sync_file_range syncfs
sysinfo tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime
timerfd_create timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat utime
utimensat utimes vfork wait4 waitid write writev
""".split()  # noqa: SIM905 - a list this long reads best as text


def architecture() -> str:
    """This machine's name in libseccomp's terms. Raises SandboxError where no filter is known."""
    machine = platform.machine()
    names = {"x86_64": "X86_64", "amd64": "X86_64", "aarch64": "AARCH64", "arm64": "AARCH64"}
    if machine.lower() not in names:
        raise SandboxError(
            f"no system-call filter is known for {machine}",
            fix="run tasks on an x86_64 or aarch64 Linux machine",
        )
    return names[machine.lower()]


def _new(library: Library, default: int, arch: str) -> Filter:
    made = library.SyscallFilter(default)
    wanted = getattr(library.Arch, arch)
    made.set_attr(library.Attr.ACT_BADARCH, library.KILL_PROCESS)
    # Order matters: a filter may not be without an architecture while rules are added.
    made.remove_arch(library.Arch.NATIVE)
    made.add_arch(wanted)
    return made


def _add(made: Filter, action: int, name: str, *arguments: object) -> None:
    try:
        made.add_rule(action, name, *arguments)
    except OSError as problem:
        # A call that this libseccomp is too old to know stays closed; any other error is a defect here.
        if problem.errno not in (errno.EINVAL, errno.EFAULT, errno.EDOM):
            raise


def _export(made: Filter) -> bytes:
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0, os.SEEK_SET)
        return file.read()


@functools.cache
def allow_list(arch: str) -> bytes:
    """The first filter as BPF: calls outside `ALLOWED` fail with ENOSYS, as on an older kernel."""
    library = load_library()
    made = _new(library, library.ERRNO(errno.ENOSYS), arch)
    for name in ALLOWED:
        _add(made, library.ALLOW, name)
    for family in (AF_UNIX, AF_INET, AF_INET6):
        _add(made, library.ALLOW, "socket", library.Arg(0, library.MASKED_EQ, _WORD, family))
    _add(made, library.ALLOW, "socketpair", library.Arg(0, library.MASKED_EQ, _WORD, AF_UNIX))
    _add(made, library.ALLOW, "clone", library.Arg(0, library.MASKED_EQ, _CLONE_NAMESPACES, 0))
    for persona in (_PER_LINUX, _ADDR_NO_RANDOMIZE, _QUERY):
        _add(made, library.ALLOW, "personality", library.Arg(0, library.MASKED_EQ, _WORD, persona))
    return _export(made)


@functools.cache
def argument_filter(arch: str) -> bytes:
    """The second filter as BPF: arguments of allowed calls that are refused with EPERM."""
    library = load_library()
    made = _new(library, library.ALLOW, arch)
    refuse = library.ERRNO(errno.EPERM)
    for request in (_TIOCSTI, _TIOCLINUX):  # typing into, or driving, a terminal of the host
        _add(made, refuse, "ioctl", library.Arg(1, library.MASKED_EQ, _WORD, request))
    # Memory shared without a file: no file system and no limit counts it, and after MADV_DONTNEED no process does.
    shared = library.Arg(3, library.MASKED_EQ, _MAP_TYPE | _MAP_ANONYMOUS, _MAP_SHARED | _MAP_ANONYMOUS)
    _add(made, refuse, "mmap", shared)
    for bit in (0o4000, 0o2000):  # setuid and setgid files would outlive the sandbox, owned by the person
        for name, position in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2), ("creat", 1)):
            _add(made, refuse, name, library.Arg(position, library.MASKED_EQ, bit, bit))
        for name, position in (("mknod", 1), ("mknodat", 2)):
            _add(made, refuse, name, library.Arg(position, library.MASKED_EQ, bit, bit))
        for name, position in (
            ("open", 1),
            ("openat", 2),
        ):  # without O_CREAT the mode is whatever the register held
            for making in (os.O_CREAT, _TMPFILE):
                create = library.Arg(position, library.MASKED_EQ, making, making)
                _add(made, refuse, name, create, library.Arg(position + 1, library.MASKED_EQ, bit, bit))
    return _export(made)


@functools.cache
def shell_filter(arch: str) -> bytes:
    """The filter a nested shell adds: no unix sockets (EACCES), and no limits set for other processes (EPERM).

    Of socket pairs only streams remain, which stay connected to each other: from an end of a datagram pair one can send
    to any path. Landlock takes limits for no signal, yet RLIMIT_CPU kills, and would kill the agent program.
    """
    library = load_library()
    made = _new(library, library.ALLOW, arch)
    _add(
        made,
        library.ERRNO(errno.EACCES),
        "socket",
        library.Arg(0, library.MASKED_EQ, _WORD, AF_UNIX),
    )
    for kind in (_SOCK_DGRAM, _SOCK_RAW):  # the kernel makes a datagram socket of a raw unix one
        wanted = library.Arg(1, library.MASKED_EQ, _SOCK_TYPE_MASK, kind)
        _add(made, library.ERRNO(errno.EACCES), "socketpair", wanted)
    others, setting = library.Arg(0, library.NE, 0), library.Arg(2, library.NE, 0)
    _add(made, library.ERRNO(errno.EPERM), "prlimit64", others, setting)
    return _export(made)


def filters(arch: str | None = None) -> tuple[bytes, bytes]:
    """Both filters of the sandbox, for this machine unless `arch` (X86_64 or AARCH64) names another."""
    arch = arch or architecture()
    return allow_list(arch), argument_filter(arch)
