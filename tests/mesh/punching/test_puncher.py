"""Attempts at a direct path: who begins, who is refused, and what a contact cannot have this device do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.io.trio import TrioTCPStream
from multiaddr import Multiaddr

from peer.mesh.guards.swarm import ours
from peer.mesh.paths import PUNCH_EVERY, PathKeeper
from peer.mesh.punching import PunchLimits
from peer.mesh.punching.endpoints import Held, dialable
from peer.mesh.streams import Stream, StreamEnded
from peer.protocol import codec, punching
from peer.protocol.errors import DispatchError, Unavailable
from peer.protocol.punching import Endpoint, Go, Offer, Ready
from sandbox.network.addresses import is_public
from tests.conftest import HANG
from tests.mesh.harness import until
from tests.mesh.punching.harness import HIGH, LOW, FakeHeld, Nats, tcp_pair, two
from tests.mesh.relays.harness import Device, device
from tests.mesh.relays.test_relays import ECHO, echo, said_back

PATIENT = PunchLimits(message=HANG, round_trip=HANG, dial=HANG)
TIRELESS = PunchLimits(message=HANG, round_trip=HANG, dial=HANG, per_minute=1000)
HURRIED = PunchLimits(message=0.2, round_trip=0.2, dial=0.2)


async def test_two_dials_are_one_connection_on_which_the_lower_id_begins_and_the_relay_is_left() -> None:
    nats = Nats()
    async with two(nats, limits=PATIENT) as (low, high), trio.open_nursery() as nursery:
        high.host.handle(ECHO, echo)
        for one in (high, low):

            async def addresses(_device: str) -> list[str]:
                return []

            nursery.start_soon(PathKeeper(one.host, addresses, waits=(0.01,), linger=0.01).run)
        await until(lambda: low.host.path(high.id) == high.host.path(low.id) == "direct")
        await until(lambda: not low.host.relayed() and not high.host.relayed())
        assert set(nats.dialled) == {(LOW, HIGH), (HIGH, LOW)}
        (connection,) = low.host._swarm.live(high.id)
        assert ours(connection.muxed_conn).is_initiator
        assert await said_back(low.host, high.id, b"directly") == b"directly"
        nursery.cancel_scope.cancel()


async def test_the_higher_id_waits_and_a_device_without_an_endpoint_proposes_nothing() -> None:
    nats = Nats()
    async with two(nats) as (low, high):
        assert low.host.puncher is not None and high.host.puncher is not None
        with pytest.raises(Unavailable):
            await high.host.puncher.punch(low.id)
        low.host.puncher._hold = high.host.puncher._hold = nothing_held
        with pytest.raises(Unavailable):
            await low.host.puncher.punch(high.id)
        assert not nats.dialled


@asynccontextmanager
async def nothing_held() -> AsyncIterator[Held]:
    yield FakeHeld(Nats(), ())


@pytest.mark.parametrize("who", ["whoever is dialled", "whoever dials"])
async def test_somebody_else_at_the_endpoint_is_refused(who: str) -> None:
    """A contact has both dial where another contact answers, or calls."""
    nats, carol = Nats(), device()
    limits = PunchLimits(message=HANG, round_trip=HANG, dial=0.2)
    async with two(nats, limits=limits, more=[carol]) as (low, high), trio.open_nursery() as nursery:
        assert low.host.puncher is not None
        place, victim = (HIGH, low) if who == "whoever is dialled" else (LOW, high)
        there = Multiaddr("/ip4/93.184.216.77/tcp/40000")

        def answers(endpoint: Endpoint) -> trio.SocketStream | None:
            if endpoint != place:
                return None
            one, other = tcp_pair()
            swarm, stream = carol.host._swarm, TrioTCPStream(other)
            if victim is low:
                nursery.start_soon(swarm.serve_expected, stream, low.id, there)
            else:
                nursery.start_soon(begin, carol, stream, high.id)
            return one

        nats.answers = answers
        with pytest.raises(Unavailable):
            await low.host.puncher.punch(high.id)
        await until(lambda: victim.host.refused == 1 or victim is low)
        assert (LOW, HIGH) in nats.dialled and low.host.path(high.id) == high.host.path(low.id) == "relay"
        assert not victim.host.connected(carol.id)
        nursery.cancel_scope.cancel()


async def begin(carol: Device, stream: TrioTCPStream, peer_id: str) -> None:
    try:
        await carol.host._swarm.upgrade_expected(stream, peer_id)
    except Exception:
        await stream.close()


async def proposal(attacker: Device, victim: Device) -> Stream:
    return await attacker.host.open_stream(victim.id, punching.PROTOCOL)


async def heard(stream: Stream) -> punching.Message:
    return punching.unpack(await stream.receive(max_bytes=punching.MAX_MESSAGE, deadline=HANG))


async def answered(victim: Device) -> None:
    """Wait until no proposal is being answered."""
    puncher = victim.host.puncher
    assert puncher is not None
    await until(lambda: not puncher._under_way)


async def ends(stream: Stream) -> None:
    with pytest.raises(StreamEnded):
        await stream.read(1, deadline=HANG)


NOT_OF_THE_INTERNET = """
10.0.0.1 127.0.0.1 255.255.255.255 224.0.0.1 169.254.1.1 0.0.0.0 93.184.216.99
::1 fd00::1 fe80::1 ff02::1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::
"""


async def test_what_is_not_of_the_internet_is_not_dialled() -> None:
    nats = Nats()
    async with two(nats, limits=TIRELESS) as (attacker, victim):
        for address in NOT_OF_THE_INTERNET.split():
            stream = await proposal(attacker, victim)
            await stream.send(punching.pack(Offer((Endpoint(ip_address(address), 40_000),))), deadline=HANG)
            assert await heard(stream) == Offer(()), address
            await ends(stream)
            await answered(victim)
        assert not nats.dialled


addresses = st.one_of(
    st.ip_addresses(),
    st.sampled_from([ip_address(each) for each in ("93.184.216.34", "2606:2800:220:1::1", "10.0.0.1", "::1")]),
)
offered = st.lists(st.builds(Endpoint, addresses, st.integers(0, 65535)), max_size=8)


@given(offered, offered)
def test_few_endpoints_are_dialled_and_of_the_internet_alone(theirs: list[Endpoint], held: list[Endpoint]) -> None:
    held = list({each.address.version: each for each in held}.values())
    own: frozenset[IPv4Address | IPv6Address] = frozenset(each.address for each in theirs[:1])
    found = dialable(theirs, held, own)
    assert len({each.address.version for each in found}) == len(found) <= 2
    for each in found:
        assert each in theirs and is_public(each.address) and each.port >= 1024 and each.address not in own
        assert each.address.version in {held.address.version for held in held}


async def test_a_contact_that_proposes_without_end_is_answered_so_often_and_no_more() -> None:
    nats, carol = Nats(), device()
    limits = PunchLimits(per_minute=3, at_once=1, dial=0.01, round_trip=HANG, message=HANG)
    async with two(nats, limits=limits, more=[carol]) as (attacker, victim):
        await carol.host.connect(victim.id, victim.relays.addresses())
        await until(lambda: victim.host.connected(carol.id))
        for _ in range(3):
            stream = await proposal(attacker, victim)
            await stream.send(punching.pack(Offer((LOW,))), deadline=HANG)
            assert await heard(stream) == Offer((HIGH,))
            for other in (attacker, carol):
                await ends(await proposal(other, victim))  # one at a time, in all
            await stream.send(punching.pack(Ready()), deadline=HANG)
            assert await heard(stream) == Go()
            await answered(victim)
        for _ in range(20):
            await ends(await proposal(attacker, victim))
        assert len(nats.dialled) == 3


@pytest.mark.parametrize("said", [0, 1])
async def test_who_says_nothing_more_is_not_waited_for_and_nothing_is_dialled(said: int) -> None:
    """Seen to hang without the deadlines."""
    nats = Nats()
    async with two(nats, limits=HURRIED) as (attacker, victim):
        stream = await proposal(attacker, victim)
        for message in (Offer((LOW,)), Ready())[:said]:
            await stream.send(punching.pack(message), deadline=HANG)
            assert await heard(stream) == Offer((HIGH,))
        await ends(stream)
        await answered(victim)
        assert not nats.dialled


async def test_who_never_answers_a_proposal_ends_it() -> None:
    nats = Nats()
    async with two(nats, limits=HURRIED) as (low, high):

        async def silent(_stream: Stream) -> None:
            await trio.sleep_forever()

        high.host.handle(punching.PROTOCOL, silent)
        assert low.host.puncher is not None
        with trio.fail_after(HANG), pytest.raises(Unavailable):
            await low.host.puncher.punch(high.id)
        assert not nats.dialled and low.host.path(high.id) == "relay"


NO_PROPOSALS: list[Any] = [
    [],
    {0: 9},
    {0: True},
    {0: 1},
    {0: 0, 1: [{1: bytes(5), 2: 40_000}]},
    {0: 0, 1: [{1: bytes(4), 2: 80}]},
    {0: 0, 1: [{1: bytes(4), 2: 40_000}] * 5},
]


async def test_what_is_no_proposal_ends_the_stream_and_nothing_else() -> None:
    nats = Nats()
    async with two(nats, limits=TIRELESS) as (attacker, victim):
        for said in NO_PROPOSALS:
            stream = await proposal(attacker, victim)
            await stream.send(said, deadline=HANG)
            await ends(stream)
            await answered(victim)
        assert not nats.dialled and victim.host.path(attacker.id) == "relay"


async def test_whoever_is_connected_directly_gets_no_attempt() -> None:
    nats = Nats()
    async with two(nats) as (low, high):
        await low.host.ways.connect_directly(high.id, high.host.addresses())
        await until(lambda: high.host.path(low.id) == "direct")
        stream = await proposal(low, high)
        with suppress(StreamEnded):  # by then, perhaps
            await stream.send(punching.pack(Offer((LOW,))), deadline=HANG)
        await ends(stream)
        assert low.host.puncher is not None
        with pytest.raises(Unavailable):
            await low.host.puncher.punch(high.id)
        assert not nats.dialled


async def test_where_it_failed_often_it_is_tried_seldom() -> None:
    async with two(Nats()) as (low, _), trio.open_nursery() as nursery:
        looked, tried = 0, []

        class Failing:
            async def punch(self, _peer_id: str) -> None:
                tried.append(looked)
                raise Unavailable("no way", fix="")

        async def none(_device: str) -> list[str]:
            nonlocal looked
            looked += 1
            return []

        low.host.puncher = Failing()  # type: ignore[assignment]
        nursery.start_soon(PathKeeper(low.host, none, waits=(0.001, 0.001)).run)
        await until(lambda: looked > 2 * PUNCH_EVERY)
        assert tried == [1, 2, PUNCH_EVERY, 2 * PUNCH_EVERY]
        nursery.cancel_scope.cancel()


later = st.dictionaries(st.integers(128, 65535), st.integers(0, 9), max_size=3)
endpoints = st.builds(Endpoint, st.ip_addresses(), st.integers(1024, 65535))
messages = st.one_of(
    st.builds(Offer, st.lists(endpoints, max_size=punching.MAX_ENDPOINTS).map(tuple)), st.just(Ready()), st.just(Go())
)


@given(messages, later)
def test_what_is_written_is_read_and_ignorable_keys_change_nothing(
    message: punching.Message, more: dict[int, int]
) -> None:
    raw = codec.encode(punching.pack(message))
    assert len(raw) <= punching.MAX_MESSAGE and punching.unpack(codec.decode(raw)) == message
    value = punching.pack(message)
    assert isinstance(value, dict)
    assert punching.unpack(value | more) == message


@given(st.binary(max_size=80))
def test_garbage_is_refused(raw: bytes) -> None:
    with suppress(DispatchError):
        punching.unpack(codec.decode(raw))
    with suppress(DispatchError):
        punching.parse_seen(raw)


@given(endpoints)
def test_what_a_relay_says_of_an_address_is_read(endpoint: Endpoint) -> None:
    assert punching.parse_seen(punching.seen_text(endpoint).encode()) == endpoint
