"""When a router is asked, and what is announced: only an address at which a relay has reached this device."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from peer.mesh.port_mapping import PortMapper, Verified, mappings
from peer.mesh.port_mapping.mapper import MapperLimits
from peer.mesh.port_mapping.mappings import Mapping, Surrounding
from peer.protocol.errors import NO_FIX, RateLimited, Unavailable

HOME = Surrounding(IPv4Address("192.168.1.1"), IPv4Address("192.168.1.7"))
CAFE = Surrounding(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.9"))
REACHED = Verified(IPv4Address("8.8.4.4"), 40_000, 4001)
LIMITS = MapperLimits()


@dataclass
class World:
    """What surrounds a mapper, with a router that maps and a relay that reaches it; times are trio's."""

    is_on: bool = True
    port: int = 4001
    relay: bool = True
    around: Surrounding | None = HOME
    maps: bool = True
    hangs: bool = False
    seconds: int = 7200
    sees: str = "8.8.4.4"
    """The address at which the relay reaches it; "" if it does not."""
    limited: bool = False
    added: list[tuple[float, Mapping | None]] = field(default_factory=list)
    removed: list[Mapping] = field(default_factory=list)
    probed: list[tuple[float, int]] = field(default_factory=list)
    changes: list[Verified | None] = field(default_factory=list)
    asked: int = 0
    """How often it looked whether it is on."""
    slept: int = 0
    """Milliseconds that passed unseen."""
    mapper: PortMapper = field(init=False)

    def __post_init__(self) -> None:
        self.mapper = PortMapper(
            enabled=self.enabled,
            port=lambda: self.port,
            probe=self.probe,
            can_ask=lambda: self.relay,
            changed=lambda: self.changes.append(self.mapper.verified),
            clock=lambda: int(trio.current_time() * 1000) + self.slept,
            look_around=lambda: self.around,
        )

    def enabled(self) -> bool:
        self.asked += 1
        return self.is_on

    async def add(self, around: Surrounding, internal: int, *, nonce: bytes, known: Mapping | None) -> Mapping:
        self.added.append((trio.current_time(), known))
        if self.hangs:
            await trio.sleep_forever()
        if not self.maps:
            raise Unavailable("the router does not answer", fix=NO_FIX)
        return Mapping(around, internal, 40_000, self.seconds)

    async def remove(self, mapping: Mapping, *, nonce: bytes) -> None:
        self.removed.append(mapping)
        if self.hangs:
            await trio.sleep_forever()

    async def probe(self, port: int) -> str:
        self.probed.append((trio.current_time(), port))
        await trio.lowlevel.checkpoint()
        if self.limited:
            raise RateLimited("too often", fix=NO_FIX)
        if not self.relay:
            raise Unavailable("no relay", fix=NO_FIX)
        return self.sees

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PortMapper]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.mapper.run)
            await wait_all_tasks_blocked()
            yield self.mapper
            nursery.cancel_scope.cancel()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock) -> World:
    made = World()
    monkeypatch.setattr(mappings, "add", made.add)
    monkeypatch.setattr(mappings, "remove", made.remove)
    return made


async def later(clock: MockClock, seconds: float) -> None:
    """Let time pass, in steps that no deadline of a mapper falls between."""
    step = LIMITS.look_every / 2
    for _ in range(round(seconds / step)):
        clock.jump(step)
        await wait_all_tasks_blocked()


async def test_what_a_relay_reached_is_announced_and_ended_with_the_node(world: World, mock_clock: MockClock) -> None:
    async with world.running() as mapper:
        assert mapper.verified == REACHED
        assert mapper.verified.multiaddr == "/ip4/8.8.4.4/tcp/40000"
        assert world.probed == [(mock_clock.current_time(), 40_000)] and world.changes == [REACHED]
    assert world.changes == [REACHED, None]
    assert world.removed == [Mapping(HOME, 4001, 40_000, 7200)]


@pytest.mark.parametrize("sees", ["", "192.168.1.1", "100.64.3.4", "127.0.0.1", "2606:4700::1111", "gone", "224.0.0.1"])
async def test_what_no_relay_reached_at_a_public_address_is_not_announced(world: World, sees: str) -> None:
    world.sees = sees
    async with world.running() as mapper:
        assert world.probed and mapper.verified is None
    assert world.changes == []


@pytest.mark.parametrize("without", [{"is_on": False}, {"port": 0}, {"relay": False}, {"around": None}], ids=str)
async def test_no_router_is_asked_where_that_is_of_no_use(
    world: World, without: dict[str, object], mock_clock: MockClock
) -> None:
    for name, value in without.items():
        setattr(world, name, value)
    async with world.running() as mapper:
        await later(mock_clock, 2 * LIMITS.retry)
        assert not world.added and not world.probed and mapper.verified is None


async def test_switched_off_it_looks_for_nothing_until_the_settings_change(world: World, mock_clock: MockClock) -> None:
    world.is_on = False
    async with world.running() as mapper:
        asked = world.asked
        await later(mock_clock, 3 * LIMITS.retry)
        assert world.asked == asked
        world.is_on = True
        mapper.reload()
        await wait_all_tasks_blocked()
        assert mapper.verified == REACHED


async def test_a_router_is_asked_once_there_is_a_relay(world: World) -> None:
    world.relay = False
    async with world.running() as mapper:
        world.relay = True
        mapper.relays_changed()
        await wait_all_tasks_blocked()
        assert mapper.verified == REACHED
        mapper.relays_changed()  # which changes nothing now
        await wait_all_tasks_blocked()
        assert len(world.probed) == 1


async def test_a_relay_is_asked_again_and_the_lease_renewed_at_half(world: World, mock_clock: MockClock) -> None:
    async with world.running() as mapper:
        await later(mock_clock, 2.5 * LIMITS.probe_every)
        assert [round(at) for at, _ in world.probed] == [0, 1800, 3600]
        assert [(round(at), known is not None) for at, known in world.added] == [(0, False), (3600, True)]
        assert mapper.verified == REACHED and world.changes == [REACHED]


async def test_it_is_withdrawn_when_a_relay_does_not_reach_it_any_more(world: World, mock_clock: MockClock) -> None:
    async with world.running() as mapper:
        world.sees = ""
        await later(mock_clock, LIMITS.probe_every)
        assert mapper.verified is None and world.changes == [REACHED, None]
        # The router was asked anew at once, as it may have forgotten; then now and then.
        assert len(world.added) == 2 and len(world.probed) == 3
        world.sees = "8.8.4.4"
        await later(mock_clock, LIMITS.retry)
        assert mapper.verified == REACHED


async def test_a_router_that_forgot_is_asked_again_at_once(world: World, mock_clock: MockClock) -> None:
    async with world.running() as mapper:
        answers = iter(["", "8.8.4.4"])

        async def probe(port: int) -> str:
            return next(answers)

        mapper._probe = probe
        await later(mock_clock, LIMITS.probe_every)
        assert mapper.verified == REACHED and world.changes == [REACHED, None, REACHED]


@pytest.mark.parametrize("what", ["relay", "limited"])
async def test_without_a_relay_that_says_so_it_holds_no_longer_than_half_an_hour(
    world: World, mock_clock: MockClock, what: str
) -> None:
    async with world.running() as mapper:
        setattr(world, what, what == "limited")
        await later(mock_clock, LIMITS.probe_every - LIMITS.look_every)
        assert mapper.verified == REACHED
        await later(mock_clock, 2 * LIMITS.look_every)
        assert mapper.verified is None


async def test_a_router_that_maps_nothing_is_asked_now_and_then(world: World, mock_clock: MockClock) -> None:
    world.maps = False
    async with world.running():
        await later(mock_clock, 3.5 * LIMITS.retry)
        assert len(world.added) == 4 and not world.probed


async def test_a_router_that_hangs_is_left(world: World, mock_clock: MockClock) -> None:
    world.hangs = True
    async with world.running():
        await later(mock_clock, LIMITS.whole + LIMITS.retry + LIMITS.look_every)
        assert len(world.added) == 2


async def test_a_router_that_hangs_holds_up_no_stop(world: World, mock_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.mapper.run)
        await wait_all_tasks_blocked()
        world.hangs = True
        nursery.cancel_scope.cancel()
        mock_clock.autojump_threshold = 0
    assert trio.current_time() == LIMITS.farewell and world.removed


@pytest.mark.parametrize("slept", [0, 3_600_000, -3_600_000])
async def test_on_another_network_nothing_is_announced_until_it_is_checked(
    world: World, mock_clock: MockClock, slept: int
) -> None:
    async with world.running() as mapper:
        world.sees, world.slept, world.around = "", slept, HOME if slept else CAFE
        await later(mock_clock, LIMITS.look_every)
        assert mapper.verified is None and len(world.added) == 2
        world.sees = "8.8.8.8"
        mapper.network_changed()
        await wait_all_tasks_blocked()
        assert mapper.verified == Verified(IPv4Address("8.8.8.8"), 40_000, 4001)


async def test_a_probe_of_the_network_before_counts_for_nothing(world: World) -> None:
    async with trio.open_nursery() as nursery:
        asked, go_on = trio.Event(), trio.Event()

        async def probe(port: int) -> str:
            asked.set()
            await go_on.wait()
            return "8.8.4.4"

        world.mapper._probe = probe
        nursery.start_soon(world.mapper.run)
        await asked.wait()
        world.mapper.network_changed()
        world.mapper._probe = world.probe
        world.sees = ""
        go_on.set()
        await wait_all_tasks_blocked()
        assert world.changes == []
        nursery.cancel_scope.cancel()


async def test_switched_off_it_is_withdrawn_and_ended_and_on_again_made(world: World) -> None:
    async with world.running() as mapper:
        world.is_on = False
        mapper.reload()
        await wait_all_tasks_blocked()
        assert mapper.verified is None and len(world.removed) == 1
        world.is_on = True
        mapper.reload()
        await wait_all_tasks_blocked()
        assert mapper.verified == REACHED


async def test_a_reload_that_changes_nothing_asks_nobody(world: World) -> None:
    async with world.running() as mapper:
        mapper.reload()
        await wait_all_tasks_blocked()
        assert len(world.added) == len(world.probed) == 1
