"""The system-call filters as the kernel would judge them, on both architectures, by a small interpreter
of classic BPF.
"""

from __future__ import annotations

import errno
import struct

import pytest

from sandbox.confinement.bubblewrap import seccomp

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
AUDIT = {"X86_64": 0xC000003E, "AARCH64": 0xC00000B7}
# Name, number on x86_64, on aarch64: from the kernel's tables.
TABLE = """
read 0 63
ioctl 16 29
socket 41 198
socketpair 53 199
clone 56 220
ptrace 101 117
keyctl 250 219
unshare 272 97
mount 165 40
openat 257 56
fchmodat 268 53
process_vm_writev 311 271
bpf 321 280
userfaultfd 323 282
io_uring_setup 425 425
clone3 435 435
perf_event_open 298 241
shmget 29 194
setns 308 268
prlimit64 302 261
personality 135 92
landlock_restrict_self 446 446
mseal 462 462
mmap 9 222
memfd_create 319 279
splice 275 76
tee 276 77
vmsplice 278 75
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]
NUMBERS = {arch: {row[0]: int(row[column]) for row in ROWS} for arch, column in (("X86_64", 1), ("AARCH64", 2))}


def judge(code: bytes, audit: int, number: int, *arguments: int) -> int:
    """Run a filter over one system call's data and return its verdict."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, audit, 0, *[value & (2**64 - 1) for value in padded])
    accumulator, place, scratch = 0, 0, [0] * 16
    while True:
        operation, jump_true, jump_false, k = struct.unpack_from("<HBBI", code, place * 8)
        place += 1
        if operation == 0x20:  # load a word
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif operation == 0x02:
            scratch[k] = accumulator
        elif operation == 0x60:
            accumulator = scratch[k]
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x05:
            place += k
        elif operation in (0x15, 0x25, 0x35, 0x45):
            taken = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[operation]
            place += jump_true if taken else jump_false
        elif operation == 0x06:
            return k
        else:
            raise AssertionError(hex(operation))


def verdict(arch: str, name: str, *arguments: int) -> int:
    """The strictest of both filters, as the kernel takes it; an errno, 0 for allowed."""
    results = [judge(code, AUDIT[arch], NUMBERS[arch][name], *arguments) for code in seccomp.filters(arch)]
    refused = [result & 0xFFFF for result in results if result != ALLOW]
    assert all(result == ALLOW or result & 0xFFFF0000 == ERRNO for result in results)
    return min(refused, default=0)


@pytest.mark.parametrize("arch", AUDIT)
@pytest.mark.parametrize(
    "name",
    [
        *(
            "ptrace",
            "keyctl",
            "unshare",
            "mount",
            "process_vm_writev",
            "bpf",
            "userfaultfd",
            "io_uring_setup",
        ),
        *("clone3", "perf_event_open", "shmget", "setns", "mseal", "memfd_create", "splice", "tee", "vmsplice"),
    ],
)
def test_dangerous_calls_do_not_exist(arch: str, name: str) -> None:
    assert verdict(arch, name) == errno.ENOSYS


HIGH = 1 << 32


@pytest.mark.parametrize("arch", AUDIT)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("read", (0,), 0),
        ("landlock_restrict_self", (3, 0), 0),
        ("socket", (1, 1), 0),
        ("socket", (2, 1), 0),
        ("socket", (10, 1), 0),
        ("socket", (16, 3), errno.ENOSYS),
        ("socket", (40, 1), errno.ENOSYS),
        ("socket", (38, 5), errno.ENOSYS),
        ("socket", (17, 3), errno.ENOSYS),
        ("socket", (HIGH | 16, 3), errno.ENOSYS),
        ("socketpair", (1, 1), 0),
        ("socketpair", (16, 1), errno.ENOSYS),
        ("clone", (0x11,), 0),
        ("clone", (0x3D0F00,), 0),  # a thread
        *[
            ("clone", (flag | 0x11,), errno.ENOSYS)
            for flag in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
        ],
        ("ioctl", (0, 0x5401), 0),
        ("ioctl", (0, 0x5412), errno.EPERM),
        ("ioctl", (0, HIGH | 0x5412), errno.EPERM),
        ("ioctl", (0, 0x541C), errno.EPERM),
        ("fchmodat", (0, 0, 0o755), 0),
        ("fchmodat", (0, 0, 0o4755), errno.EPERM),
        ("fchmodat", (0, 0, 0o2755), errno.EPERM),
        ("openat", (0, 0, 0, 0o4755), 0),  # without O_CREAT the mode means nothing
        ("openat", (0, 0, 0o101, 0o644), 0),
        ("openat", (0, 0, 0o101, 0o4755), errno.EPERM),
        ("openat", (0, 0, 0o20200001, 0o644), 0),
        ("openat", (0, 0, 0o20200001, 0o4755), errno.EPERM),  # O_TMPFILE makes a file too, and linkat names it
        ("mmap", (0, 4096, 3, 0x22), 0),  # private, without a file
        ("mmap", (0, 4096, 3, 0x01), 0),  # shared, a file's
        ("mmap", (0, 4096, 3, 0x21), errno.EPERM),
        ("mmap", (0, 4096, 3, 0x40021), errno.EPERM),  # MAP_HUGETLB
        ("mmap", (0, 4096, 3, HIGH | 0x21), errno.EPERM),
        ("personality", (0xFFFFFFFF,), 0),
        ("personality", (0x0400000,), errno.ENOSYS),  # READ_IMPLIES_EXEC
    ],
)
def test_arguments(arch: str, name: str, arguments: tuple[int, ...], expected: int) -> None:
    assert verdict(arch, name, *arguments) == expected


@pytest.mark.parametrize("arch", AUDIT)
def test_other_architectures_die(arch: str) -> None:
    for code in seccomp.filters(arch):
        for other in (
            0x40000003,
            AUDIT["AARCH64" if arch == "X86_64" else "X86_64"],
        ):  # i386, and the other one
            assert judge(code, other, 0) == KILL
    if arch == "X86_64":  # x32 calls share the architecture's number and set bit 30
        assert judge(seccomp.allow_list(arch), AUDIT[arch], 0x40000000 | 0) != ALLOW


@pytest.mark.parametrize("arch", AUDIT)
def test_shells_have_no_unix_sockets(arch: str) -> None:
    code, numbers = seccomp.shell_filter(arch), NUMBERS[arch]
    assert judge(code, AUDIT[arch], numbers["socket"], 1) == ERRNO | errno.EACCES
    assert judge(code, AUDIT[arch], numbers["socket"], HIGH | 1) == ERRNO | errno.EACCES
    for allowed in (("socket", 2), ("socketpair", 1, 1), ("socketpair", 1, 5 | 0o2000000), ("read", 0)):
        assert judge(code, AUDIT[arch], numbers[allowed[0]], *allowed[1:]) == ALLOW
    for kind in (2, 3, 2 | 0o2000000, HIGH | 2):  # one end of a datagram pair reaches any path
        assert judge(code, AUDIT[arch], numbers["socketpair"], 1, kind) == ERRNO | errno.EACCES


@pytest.mark.parametrize("arch", AUDIT)
def test_shells_set_no_limits_of_others(arch: str) -> None:
    code, number = seccomp.shell_filter(arch), NUMBERS[arch]["prlimit64"]
    assert judge(code, AUDIT[arch], number, 2, 0, 0xFFFF) == ERRNO | errno.EPERM
    assert judge(code, AUDIT[arch], number, 2, 0, HIGH) == ERRNO | errno.EPERM
    assert judge(code, AUDIT[arch], number, 0, 0, 0xFFFF) == ALLOW
    assert judge(code, AUDIT[arch], number, 2, 0, 0, 0xFFFF) == ALLOW  # looking


def test_every_name_is_known_to_the_library() -> None:
    pyseccomp = pytest.importorskip("pyseccomp")
    unknown = []
    for name in seccomp.ALLOWED:
        try:
            if pyseccomp.resolve_syscall(pyseccomp.Arch.X86_64, name) < -10000:
                unknown.append(name)
        except (OSError, ValueError):
            unknown.append(name)
    # Newer than Debian 12's libseccomp; closed there, which their callers take for an older kernel.
    assert set(unknown) <= {"cachestat", "fchmodat2"}
