"""What counts as another network, as sleep, and as a process that stood still; how often the networks are looked at."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from peer.machine import networks as module
from peer.machine.networks import Clocks, Kernel, Networks, NetworkWatch, networks, subscribed
from tests.mesh.harness import until

HOME = Networks(frozenset({("wlan0", "192.0.2.7", True)}), frozenset({("wlan0", "010200C0")}))
AWAY = Networks(frozenset({("wlan0", "198.51.100.7", True)}), frozenset({("wlan0", "016433C6")}))

seconds = st.floats(0, 1e6)


@given(began=seconds, ran=st.floats(0, module.STOOD_SECONDS), slept=seconds, apart=st.floats(-1e6, 1e6))
def test_sleep_is_what_one_clock_counts_and_the_other_does_not(
    began: float, ran: float, slept: float, apart: float
) -> None:
    before, now = Clocks(began, began + apart), Clocks(began + ran, began + apart + ran + slept)
    if abs(slept - module.SLEPT_SECONDS) > 0.001:
        assert now.stood_still_since(before, module.LOOK_SECONDS) is (slept > module.SLEPT_SECONDS)


@given(began=seconds, late=seconds)
def test_a_process_that_looks_far_too_late_was_stopped(began: float, late: float) -> None:
    ran = module.LOOK_SECONDS + late
    before, now = Clocks(began, began), Clocks(began + ran, began + ran)
    if abs(late - module.STOOD_SECONDS) > 0.001:
        assert now.stood_still_since(before, module.LOOK_SECONDS) is (late > module.STOOD_SECONDS)


@given(back=seconds)
def test_a_clock_that_is_set_back_is_no_sleep(back: float) -> None:
    """Where the date stands for a clock that counts sleep."""
    assert not Clocks(1.0, -back).stood_still_since(Clocks(0.0, 0.0), module.LOOK_SECONDS)


class Watched:
    """A watch whose machine is played: `now` are its networks, `word()` is one of the kernel's, `slept` seconds."""

    def __init__(self, *, kernel: bool) -> None:
        self.now, self.slept = HOME, 0.0
        self.changes = self.wakes = self.looks = 0
        theirs, self._says = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs.setblocking(False)
        self.kernel: Any = Kernel(theirs) if kernel else None
        self.watch = NetworkWatch(
            self._changed, self._woke, look=self._look, clocks=self._clocks, kernel=lambda: self.kernel
        )

    def word(self, times: int = 1) -> None:
        for _ in range(times):
            self._says.send(b"anything")

    def close(self) -> None:
        self._says.close()

    def _changed(self) -> None:
        self.changes += 1

    def _woke(self) -> None:
        self.wakes += 1

    def _look(self) -> Networks:
        self.looks += 1
        return self.now

    def _clocks(self) -> Clocks:
        return Clocks(trio.current_time(), trio.current_time() + self.slept)


async def _watching(watched: Watched, then: Callable[[], Any]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await until(lambda: watched.looks == 1)
        await wait_all_tasks_blocked()
        await then()
        nursery.cancel_scope.cancel()
    watched.close()


async def test_only_what_changed_counts_and_many_words_are_one_look() -> None:
    """Seen to fail where each word of the kernel counted: a container that starts says a dozen things."""
    watched = Watched(kernel=True)

    async def then() -> None:
        watched.word(8)
        await until(lambda: watched.looks == 2)
        assert watched.changes == 0
        watched.now = AWAY
        watched.word(8)
        await until(lambda: watched.looks == 3)
        await until(lambda: watched.changes == 1)
        watched.word()
        await until(lambda: watched.looks == 4)
        assert watched.changes == 1

    await _watching(watched, then)


async def test_a_word_that_was_lost_may_have_been_of_anything() -> None:
    """Seen to fail where ENOBUFS was an error like any other, and where it was ignored."""

    class Overrun(Kernel):
        lost = False

        async def says_something(self) -> None:
            if self.lost:
                await trio.sleep_forever()

        def drain(self) -> bool:
            self.lost = True
            return super().drain()

    class Raw:
        left = 1

        def recv(self, _size: int) -> bytes:
            self.left -= 1
            raise OSError(errno.ENOBUFS, "lost") if self.left == 0 else BlockingIOError

        def close(self) -> None: ...

    watched = Watched(kernel=False)
    raw: Any = Raw()
    watched.kernel = Overrun(raw)

    async def then() -> None:
        await until(lambda: watched.changes == 1)
        assert watched.looks == 2

    await _watching(watched, then)


async def test_without_the_kernels_word_the_networks_are_looked_at(autojump_clock: MockClock) -> None:
    watched = Watched(kernel=False)
    autojump_clock.autojump_threshold = 0.05  # the look is made in a thread
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch.run)
        await trio.sleep(25)
        looks = watched.looks
        watched.now = AWAY
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    watched.close()
    assert looks <= 3 and (watched.changes, watched.wakes) == (1, 0)


async def test_a_machine_that_slept_woke_once(autojump_clock: MockClock) -> None:
    watched = Watched(kernel=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watched.watch._watch_clocks)
        await trio.sleep(60)
        assert watched.wakes == 0
        watched.slept = 3600
        await trio.sleep(2 * module.LOOK_SECONDS)
        assert watched.wakes == 1
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    watched.close()
    assert watched.wakes == 1


@pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")
def test_the_kernel_is_listened_to() -> None:
    kernel = subscribed()
    assert kernel is not None and kernel.drain() is False
    kernel.close()


def test_addresses_of_a_link_alone_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each container that starts brings an interface with one, and they lead nowhere."""
    made = psutil._ntuples.snicaddr
    addresses = [
        *((socket.AF_INET6, each) for each in ("fe80::1%eth0", "::1", "2001:db8::7")),
        *((socket.AF_INET, each) for each in ("127.0.0.1", "169.254.1.1", "192.0.2.7")),
        (psutil.AF_LINK, "00:00:5e:00:53:01"),
    ]
    rows = {"eth0": [made(family, address, None, None, None) for family, address in addresses]}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: rows)
    monkeypatch.setattr(psutil, "net_if_stats", dict)
    assert networks().addresses == {("eth0", "2001:db8::7", False), ("eth0", "192.0.2.7", False)}


def test_default_routes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    zero, gateway = "0" * 32, "fd" + "0" * 29 + "1"
    (tmp_path / "ipv6_route").write_text(
        f"{zero} 00 {zero} 00 {gateway} 00000400 00000001 00000000 00000003 eth0\n"
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo\n"
    )
    monkeypatch.setattr(module, "_ROUTES", tmp_path)
    assert networks().default_routes == {("eth0", "010200C0"), ("eth0", gateway)}
