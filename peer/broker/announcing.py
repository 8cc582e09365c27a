"""This device's presence at one broker: announced, and again once that holds no more. Other devices': sync.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from peer.broker.client import LEAST_ANNOUNCED_SECONDS, BrokerClient
from peer.broker.presence import seal_presence
from peer.mesh.peer_record import MAX_ADDRESSES
from peer.steps.context import Context
from peer.store import contacts, counters

PRESENCE_LIFETIME_MS = 2 * 3_600_000
LOOK_SECONDS = 30.0
"""How often to look whether the announcement still holds: nothing says that a machine was suspended, that its clock was
set, or that it is on another network."""
CLOCKS_APART = 300.0
"""Seconds by which the broker's clock has to move against ours for an announcement to hold no more: it ends by that."""


@dataclass(frozen=True)
class _Announced:
    """What the broker was told last, at `at` on trio's clock, and until when it has to be told again: by our clock
    (ms), and by trio's."""

    wish: int
    seq: int
    addresses: frozenset[str]
    since: int
    until: int
    at: float
    due: float
    ahead: float | None


class Announcer:
    """What one broker was told of where this device is. `addresses` returns the current multiaddrs."""

    def __init__(self, context: Context, addresses: Callable[[], list[str]]) -> None:
        self._context = context
        self._addresses = addresses
        self._wishes = 0
        """How often an announcement was asked for."""
        self._announced: _Announced | None = None
        self._look = trio.Event()
        """A reason to see whether the announcement still holds."""
        self._ahead: float | None = None
        self._not_before = -float("inf")
        """On trio's clock: until then it changes nothing that the broker says to have no announcement."""
        self._withdrawn = False

    def request(self) -> None:
        """Have the presence announced again soon, whatever was told."""
        self._wishes += 1
        self._look.set()

    def look(self) -> None:
        """Have it announced again soon if it holds no more."""
        self._look.set()

    def note_clock(self, ahead: float | None) -> None:
        """Note by how many seconds the broker's clock is ahead of ours, by its latest answer; None if it gave none."""
        self._ahead = ahead

    def note_known(self, seq: int | None, *, asked: float) -> None:
        """Have the presence announced again where the broker has an older announcement than the last one, or none: it
        has lost data, or has data of an earlier time.

        `seq`: of the announcement that it has, 0 for none, None where it does not say. `asked`: when it was asked, on
        trio's clock; an announcement that was under way then may have come after the answer.
        """
        told, now = self._announced, trio.current_time()
        if seq is None or told is None or seq >= told.seq or asked <= told.at or now < self._not_before:
            return
        self._not_before = now + LEAST_ANNOUNCED_SECONDS
        self.request()

    async def announce(self, broker: BrokerClient) -> bool:
        """Announce this device unless that still holds; return whether it was told."""
        if self._withdrawn:
            await trio.sleep_forever()
        self._look = trio.Event()
        if self._holds():
            return False
        context, wish = self._context, self._wishes
        devices = await context.store.read(contacts.devices)
        now, seq = context.clock(), await self.next_sequence()
        addresses = self._reachable_at()
        box = seal_presence(
            seed=context.identity.seed,
            addresses=addresses,
            seq=seq,
            recipients=[device.sealing_key for device in devices],
        )
        after = await broker.put_presence(seq=seq, expires=now + PRESENCE_LIFETIME_MS, box=box)
        self._ahead = broker.ahead
        told = trio.current_time()
        self._announced = _Announced(
            wish=wish,
            seq=seq,
            addresses=frozenset(addresses),
            since=now,
            until=now + int(after * 1000),
            at=told,
            due=told + after,
            ahead=broker.ahead,
        )
        return True

    async def withdraw(self, broker: BrokerClient) -> None:
        """Withdraw what was announced, and announce nothing any more."""
        self._withdrawn = True
        await broker.withdraw_presence(seq=await self.next_sequence())

    async def wait_outdated(self) -> None:
        """Return when the last announcement holds no more."""
        while (held := self._announced) is not None and self._holds():
            with trio.move_on_after(min(LOOK_SECONDS, held.due - trio.current_time())):
                await self._look.wait()
            self._look = trio.Event()

    async def next_sequence(self) -> int:
        """Return the next announcement's number. It grows even if the clock was set back."""
        now = self._context.clock()
        return await self._context.store.write(lambda db: counters.next_after(db, counters.PRESENCE, now))

    def _holds(self) -> bool:
        """Whether the last announcement still says where this device is, to whom it should, and is still there."""
        told = self._announced
        if told is None or told.wish != self._wishes or not told.since <= self._context.clock() < told.until:
            return False
        if told.ahead is not None and self._ahead is not None and abs(told.ahead - self._ahead) > CLOCKS_APART:
            return False
        return trio.current_time() < told.due and told.addresses == set(self._reachable_at())

    def _reachable_at(self) -> list[str]:
        return self._addresses()[:MAX_ADDRESSES]
