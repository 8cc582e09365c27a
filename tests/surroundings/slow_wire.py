"""A wire between two machines on which everything takes its time, and some is lost: two TAP devices, and a thread that
passes frames on.

The kernel's own (netem) is not in every kernel that tests run on.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from tests.surroundings.networks import Machine

_TUNSETIFF = 0x400454CA
_TAP, _WITHOUT_HEAD = 0x0002, 0x1000


@contextmanager
def wire(
    one: Machine, name: str, other: Machine, other_name: str, seconds: float, *, loss: float = 0
) -> Iterator[None]:
    """Frames take so many seconds each way while the block runs. `loss`: the part of them that never arrives."""
    ends = [_tap(one, name), _tap(other, other_name)]
    stop, stopped = os.pipe()
    passing = threading.Thread(target=_pass_on, args=(ends, seconds, loss, stop))
    passing.start()
    try:
        yield
    finally:
        os.close(stopped)
        passing.join()
        for each in (*ends, stop):
            os.close(each)


def _tap(machine: Machine, name: str) -> int:
    with machine.entered():
        end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _WITHOUT_HEAD))
    return end


def _pass_on(ends: list[int], seconds: float, loss: float, stop: int) -> None:
    chance = random.Random(5)
    under_way: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait = under_way[0][0] - time.monotonic() if under_way else None
        ready, _, _ = select.select([*ends, stop], [], [], None if wait is None else max(0.0, wait))
        if stop in ready:
            return
        for end in ready:
            frame = os.read(end, 65536)
            if chance.random() < loss:
                continue
            under_way.append((time.monotonic() + seconds, ends[1 - ends.index(end)], frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, end, frame = under_way.popleft()
            try:
                os.write(end, frame)
            except OSError:
                continue  # that end is not up yet
