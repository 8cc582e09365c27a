"""Which user of this machine is at the other end of a loopback connection, and the places each user has. Linux only.

The kernel is asked by sock_diag(7), which finds one TCP socket by its addresses without listing all of them, as
/proc/net/tcp would have to. Elsewhere nobody knows, and all connections count as this user's own.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import Final, Protocol, TypeAlias

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLM_F_REQUEST: Final = 1
NETLINK_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port id
REQUEST: Final = struct.Struct("=BBBxIHH16s16sIQ")  # struct inet_diag_req_v2
UID_AT: Final = NETLINK_HEADER.size + 4 + 48 + 12
"""struct inet_diag_msg: four bytes, the socket's id, three counters, then the uid."""
ALL_STATES: Final = 0xFFFFFFFF
NO_COOKIE: Final = 0xFFFFFFFFFFFFFFFF

Address: TypeAlias = tuple[str, int]


class Accepted(Protocol):
    """A connected IPv4 socket, of the standard library or of trio."""

    def getpeername(self) -> Address: ...
    def getsockname(self) -> Address: ...


UidOf: TypeAlias = Callable[[Accepted], int | None]


def uid_of_peer(connection: Accepted) -> int | None:
    """Return the uid of the user who opened the accepted IPv4 `connection`; None if the kernel does not say."""
    try:
        return _uid(connection.getpeername(), connection.getsockname())
    except OSError:
        return None


def can_look_up() -> bool:
    """Whether this system says who is at the other end: tried with a connection of our own."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()),
            closing(listener.accept()[0]) as accepted,
        ):
            return uid_of_peer(accepted) == os.geteuid()
    except OSError:
        return False


def _uid(source: Address, destination: Address) -> int | None:
    if not hasattr(socket, "AF_NETLINK"):
        return None
    body = REQUEST.pack(
        socket.AF_INET,
        socket.IPPROTO_TCP,
        0,
        ALL_STATES,
        socket.htons(source[1]),
        socket.htons(destination[1]),
        socket.inet_aton(source[0]),
        socket.inet_aton(destination[0]),
        0,
        NO_COOKIE,
    )
    head = NETLINK_HEADER.pack(NETLINK_HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as kernel:
        kernel.setblocking(False)  # the kernel has answered when send() returns
        kernel.send(head + body)
        answer = kernel.recv(4096)
    if len(answer) < UID_AT + 4 or NETLINK_HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:
        return None  # an error: there is no such socket any more
    return int(struct.unpack_from("=I", answer, UID_AT)[0])


class Places:
    """Who holds how many of `most` connections. Other users of this machine never hold what this user needs.

    They have no token, so all that they can get is a refusal: few places are enough for that.
    """

    def __init__(self, most: int, *, own: int, for_others: int, for_one_other: int) -> None:
        self._most = most
        self._own = own
        self._for_others = for_others
        self._for_one_other = for_one_other
        self._held: Counter[int | None] = Counter()

    def take(self, uid: int | None) -> bool:
        """Take a place for a user, None for one who is not known, and return whether there was one."""
        others = self._held.total() - self._held[self._own]
        if uid != self._own and (others >= self._for_others or self._held[uid] >= self._for_one_other):
            return False
        if self._held.total() >= self._most:
            return False
        self._held[uid] += 1
        return True

    def give_back(self, uid: int | None) -> None:
        """Give back a place that `take` gave."""
        self._held[uid] -= 1
        if not self._held[uid]:
            del self._held[uid]
