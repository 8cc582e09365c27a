"""Notices that this machine is on other networks than before, that it slept, and that this process stood still.

What follows is decided elsewhere: peer/node/waking.py. On Linux the kernel says that something changed (rtnetlink(7));
elsewhere, and where there is no such socket, the networks are looked at every POLL_SECONDS.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import structlog
import trio

log = structlog.get_logger(__name__)

SETTLE_SECONDS: Final = 0.5
"""From the first word of a change to the look at what changed: an interface that comes up says a dozen things."""
POLL_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 1.0
"""Between two looks at the clocks, which take microseconds: nothing tells a process that the machine slept."""
SLEPT_SECONDS: Final = 2.0
"""How far the clocks must have come apart."""
STOOD_SECONDS: Final = 10.0
"""A look that comes so late: the process was stopped, or the machine was, by whoever simulates it."""
MOST_DATAGRAMS: Final = 4096
"""Read in a row, and thrown away. The socket's buffer holds fewer; beyond it the kernel reports a loss (ENOBUFS)."""

_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV6_ADDRESS, _IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400
_GROUPS: Final = _LINK | _IPV4_ADDRESS | _IPV4_ROUTE | _IPV6_ADDRESS | _IPV6_ROUTE
_NETLINK_ROUTE: Final = 0
_ROUTES: Final = Path("/proc/net")


@dataclass(frozen=True)
class Networks:
    """What of this machine's networks decides whom it reaches. Two that are equal are the same networks."""

    addresses: frozenset[tuple[str, str, bool]]
    """Interface, address, and whether the interface is up. None of loopback and of a link alone."""
    default_routes: frozenset[tuple[str, str]]
    """Interface and gateway, as the kernel writes it; empty where nothing says them."""


def networks() -> Networks:
    """Look at them now."""
    up = {name: each.isup for name, each in psutil.net_if_stats().items()}
    found: set[tuple[str, str, bool]] = set()
    for name, addresses in psutil.net_if_addrs().items():
        for each in addresses:
            try:
                address = ipaddress.ip_address(each.address.partition("%")[0])
            except ValueError:
                continue  # a hardware address
            if not (address.is_loopback or address.is_link_local):
                found.add((name, str(address), up.get(name, False)))
    return Networks(frozenset(found), frozenset(_routes()))


def _routes() -> Iterator[tuple[str, str]]:
    """Yield (interface, gateway) of each default route, from what Linux says of them."""
    for words in _lines("route"):
        if len(words) > 7 and words[1] == words[7] == "00000000":
            yield words[0], words[2]
    for words in _lines("ipv6_route"):
        if len(words) > 9 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo":
            yield words[9], words[4]


def _lines(file: str) -> Iterator[list[str]]:
    with suppress(OSError), (_ROUTES / file).open() as lines:
        yield from (line.split() for line in lines)


@dataclass(frozen=True)
class Clocks:
    """Seconds of two clocks at one moment: one that stands still while the machine sleeps, and one that does not."""

    awake: float
    always: float

    def stood_still_since(self, before: Clocks, expected: float) -> bool:
        """Whether machine or process stood still since `before`, which was `expected` seconds ago for the process."""
        ran, passed = self.awake - before.awake, self.always - before.always
        return passed - ran > SLEPT_SECONDS or ran - expected > STOOD_SECONDS


def clocks() -> Clocks:
    """Look at them now. Without a clock that counts sleep the date is one, and setting it forward counts as sleep."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return Clocks(time.monotonic(), time.time() if boottime is None else time.clock_gettime(boottime))


class NetworkWatch:
    """`changed()` is called when the networks are others than before, `woke()` after a sleep. Neither may block.

    `look` and `clocks` as the functions of this module; `kernel()`: what says that there is something to look at.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        woke: Callable[[], None],
        *,
        look: Callable[[], Networks] = networks,
        clocks: Callable[[], Clocks] = clocks,
        kernel: Callable[[], Kernel | None] | None = None,
    ) -> None:
        self._changed, self._woke = changed, woke
        self._look, self._clocks = look, clocks
        self._kernel = kernel or subscribed

    async def run(self) -> None:
        """Watch until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_clocks)
            nursery.start_soon(self._watch_networks)

    async def _watch_clocks(self) -> None:
        before = self._clocks()
        while True:
            await trio.sleep(LOOK_SECONDS)
            now = self._clocks()
            if now.stood_still_since(before, LOOK_SECONDS):
                log.info("machine.woke", seconds=round(now.always - before.always))
                self._woke()
            before = now

    async def _watch_networks(self) -> None:
        kernel = self._kernel()
        try:
            before = await trio.to_thread.run_sync(self._look)
            while True:
                lost = False
                if kernel is None:
                    await trio.sleep(POLL_SECONDS)
                else:
                    await kernel.says_something()
                    await trio.sleep(SETTLE_SECONDS)
                    lost = kernel.drain()
                now = await trio.to_thread.run_sync(self._look)
                if lost or now != before:
                    log.info("machine.networks_changed", addresses=len(now.addresses), lost=lost)
                    self._changed()
                before = now
        finally:
            if kernel is not None:
                kernel.close()


class Kernel:
    """The kernel's word of changes. What it says is not read: that it says something is a reason to look."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw

    async def says_something(self) -> None:
        """Wait until there is something to drain."""
        await trio.lowlevel.wait_readable(self._raw.fileno())

    def drain(self) -> bool:
        """Throw away what has come; return whether the kernel had to drop some of it."""
        lost = False
        for _ in range(MOST_DATAGRAMS):
            try:
                self._raw.recv(1)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
        return lost

    def close(self) -> None:
        """Hear no more."""
        self._raw.close()


def subscribed() -> Kernel | None:
    """Subscribe to changes of links, addresses and routes; None where that is not to be had."""
    if not hasattr(socket, "AF_NETLINK"):
        return None
    try:
        raw = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
    except OSError as error:
        log.info("machine.no_netlink", errno=error.errno)
        return None
    try:
        raw.setblocking(False)
        raw.bind((0, _GROUPS))
    except OSError as error:
        raw.close()
        log.info("machine.no_netlink", errno=error.errno)
        return None
    return Kernel(raw)
