# ruff: noqa: PTH123
"""Sockets of every kind to everything on this machine and off it."""

import ctypes
import os
import socket
from typing import Any

from tests.attacks.inside import SHELL, absent, attack


def connect(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.settimeout(3)
        made.connect(address)


@attack("ECONNREFUSED")
def loopback(a: Any) -> None:
    connect(socket.AF_INET, ("127.0.0.1", a.port))


@attack("ECONNREFUSED", machine=True)
def loopback_by_IPv6(a: Any) -> None:
    if not a.port6:
        raise OSError(111, "a machine without IPv6")
    connect(socket.AF_INET6, ("::1", a.port6))


@attack("ECONNREFUSED", machine=True)
def loopback_by_a_mapped_address(a: Any) -> None:
    connect(socket.AF_INET6, ("::ffff:127.0.0.1", a.port))


@attack("ECONNREFUSED", shell="EACCES")
def an_abstract_socket(a: Any) -> None:
    connect(socket.AF_UNIX, f"\0{a.abstract}")


@attack("ENOENT", shell="EACCES")
def a_bus_by_its_path(a: Any) -> None:
    connect(socket.AF_UNIX, a.bus)


@attack("ENOENT", shell="EACCES", untestable="this machine has no container engine's socket of its own")
def the_engine_of_containers(a: Any) -> None:
    connect(socket.AF_UNIX, "/var/run/docker.sock")


@attack("EACCES", places=(SHELL,))
def a_socket_planted_in_the_workspace(a: Any) -> None:
    connect(socket.AF_UNIX, f"{a.workspace}/docker.sock")


@attack("EACCES", places=(SHELL,))
def the_model_from_a_shell(a: Any) -> None:
    connect(socket.AF_UNIX, a.model)


@attack("EACCES", places=(SHELL,))
def a_datagram_from_one_end_of_a_pair(a: Any) -> None:
    left, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.sendto(b"x", f"{a.workspace}/log.sock")


@attack("EACCES", places=(SHELL,))
def a_raw_datagram_from_one_end_of_a_pair(a: Any) -> None:
    left, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)
    left.sendto(b"x", f"{a.workspace}/log.sock")


@attack("ENETUNREACH", untestable="the tests reach no network outside either")
def the_internet(a: Any) -> None:
    connect(socket.AF_INET, ("1.1.1.1", 443))


@attack("ENETUNREACH")
def a_datagram_to_a_name_server(a: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"x" * 32, ("127.0.0.1", a.udp) if a.side == "outside" else ("9.9.9.9", 53))


@attack("absent")
def a_datagram_on_loopback(a: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(0.2)
        made.connect(("127.0.0.1", a.udp))
        made.send(b"x")
        try:
            made.recv(1)
        except TimeoutError:
            return  # it was taken
        except ConnectionRefusedError:
            absent("nobody listens there")


@attack("EPERM", root_only=True)
def raw_packets(a: Any) -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


@attack("ENOSYS", root_only=True)
def packets_below_IP(a: Any) -> None:
    socket.socket(17, socket.SOCK_RAW).close()


@attack("ENOSYS")
def netlink(a: Any) -> None:
    socket.socket(16, socket.SOCK_RAW, 0).close()


@attack("ENOSYS", machine=True)
def the_hypervisor_by_vsock(a: Any) -> None:
    socket.socket(40, socket.SOCK_STREAM).close()


@attack("ENOSYS", machine=True)
def ciphers_of_the_kernel(a: Any) -> None:
    socket.socket(38, socket.SOCK_SEQPACKET).close()


@attack("ENOSYS", machine=True)
def bluetooth(a: Any) -> None:
    socket.socket(31, socket.SOCK_RAW, 1).close()


@attack("absent")
def a_network_interface_besides_loopback(a: Any) -> None:
    with open("/proc/net/dev", encoding="ascii") as file:
        if [line for line in file if ":" in line and line.split(":")[0].strip() != "lo"]:
            return
    absent("lo alone")


@attack("EPERM", root_only=True)
def settings_of_an_interface(a: Any) -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        wanted = ctypes.create_string_buffer(b"lo", 40)
        fcntl.ioctl(made, 0x8913, wanted)  # what it is already, set anew
        fcntl.ioctl(made, 0x8914, wanted)


@attack("EACCES", places=(SHELL,))
def a_socket_of_any_unix_kind(a: Any) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        try:
            socket.socket(socket.AF_UNIX, kind).close()
        except PermissionError as problem:
            refused = problem
        else:
            return
    raise refused


@attack("EACCES", places=(SHELL,))
def a_unix_socket_with_high_bits_set(a: Any) -> None:
    """The family is an int to the kernel: bits above it must not pass by the filter."""
    number = {"x86_64": 41, "aarch64": 198}[os.uname().machine]
    library = ctypes.CDLL(None, use_errno=True)
    found = library.syscall(
        ctypes.c_long(number), ctypes.c_uint64(1 << 32 | socket.AF_UNIX), ctypes.c_long(1), ctypes.c_long(0)
    )
    if found < 0:
        raise OSError(ctypes.get_errno(), "socket")
