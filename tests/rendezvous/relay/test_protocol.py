"""What a relay does for devices that keep to the protocol, over real sockets."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from ipaddress import ip_address

import httpx
import pytest
import trio

from peer.protocol.punching import ADDRESS_PATH, Endpoint, parse_seen
from peer.protocol.relays import messages
from peer.protocol.relays.messages import (
    CONTROL_PATH,
    MAX_PIECE,
    PIPE_PATH,
    Incoming,
    Joined,
    Listen,
    Refusal,
    Renewal,
    Ticket,
    Welcome,
)
from rendezvous.relay.admission import Admission
from rendezvous.relay.limits import RelayLimits
from tests.conftest import HANG
from tests.rendezvous.relay.world import SECRET, Broker, Keys, Running, proof, running_relay, two

TAG = b"t" * 16
OTHER_TAG = b"o" * 16


@pytest.fixture
async def relay() -> AsyncIterator[Running]:
    async with running_relay() as running:
        yield running


async def test_two_devices_are_joined(relay: Running) -> None:
    async with two(relay) as (caller, callee):
        answer = await caller.ring(7, TAG, b"sealed")
        assert isinstance(answer, Ticket) and answer.number == 7
        incoming = await callee.incoming()
        assert incoming == Incoming(TAG, b"sealed", incoming.ticket) and incoming.ticket != answer.ticket
        async with relay.pipe(answer.ticket) as near, relay.pipe(incoming.ticket) as far:
            assert await near.receive() == Joined() == await far.receive()
            for size in (0, 1, 125, 126, 65_536, MAX_PIECE):
                piece = os.urandom(size)
                for here, there in ((near, far), (far, near)):
                    await here.socket.send_message(piece)
                    assert await there.socket.get_message() == piece
            assert relay.relay.registry.pipes_open == 1
            await near.socket.aclose()
            assert await far.closed() == (1000, "the other end has disconnected")
        await relay.until(lambda: relay.relay.registry.pipes_open == 0)


async def test_what_was_sent_before_an_end_left_arrives(relay: Running) -> None:
    async with two(relay) as (caller, callee), relay.joined(caller, callee, TAG) as (near, far):
        pieces = [bytes([n]) * 100_000 for n in range(20)]
        received = []

        async def read() -> None:
            for _ in pieces:
                received.append(await far.socket.get_message())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for piece in pieces:
                await near.socket.send_message(piece)
            await near.socket.aclose()
        assert received == pieces


async def test_whoever_was_rung_may_come_first(relay: Running) -> None:
    async with two(relay) as (caller, callee):
        ticket = await caller.ticket(TAG)
        incoming = await callee.incoming()
        async with relay.pipe(incoming.ticket) as far:
            await relay.until(lambda: len(relay.relay.handshakes) == 0)
            async with relay.pipe(ticket) as near:
                assert await near.receive() == Joined() == await far.receive()


async def test_a_newer_connection_of_a_device_ends_the_older(relay: Running) -> None:
    keys = Keys()
    async with relay.control(keys) as older:
        await older.listen(TAG)
        async with relay.control(keys) as newer, relay.control(Keys()) as caller:
            assert (await older.closed())[0] == 4409
            await newer.listen(OTHER_TAG)
            await caller.ticket(TAG)  # of the older one
            await caller.ticket(OTHER_TAG)
            assert (await newer.incoming()).tag == OTHER_TAG


async def test_listen_replaces_what_was_named_before(relay: Running) -> None:
    async with two(relay) as (caller, callee):
        await callee.listen(OTHER_TAG)
        await caller.ticket(TAG)
        await caller.ticket(OTHER_TAG)
        assert (await callee.incoming()).tag == OTHER_TAG


async def test_a_tag_stays_with_its_first_device(relay: Running) -> None:
    async with two(relay) as (caller, callee), relay.control(Keys()) as other:
        await other.listen(TAG, OTHER_TAG)
        await caller.ticket(TAG)
        assert (await callee.incoming()).tag == TAG
        await caller.ticket(OTHER_TAG)
        assert (await other.incoming()).tag == OTHER_TAG
        await callee.listen()
        await other.listen(TAG)
        await caller.ticket(TAG)
        assert (await other.incoming()).tag == TAG


async def test_the_largest_listen_and_kinds_that_nobody_knows_yet(relay: Running) -> None:
    async with two(relay) as (caller, callee):
        await callee.socket.send_message(b"\xa1\x00\x18\x63")  # {0: 99}
        await callee.send(Listen(tuple(n.to_bytes(16, "big") for n in range(1024))))
        assert isinstance(await callee.ring(3, OTHER_TAG), Ticket)
        await caller.ticket((1023).to_bytes(16, "big"))
        assert (await callee.incoming()).tag == (1023).to_bytes(16, "big")


async def test_an_admission_ends_unless_it_is_renewed() -> None:
    broker, keys, other = Broker(), Keys(), Keys()
    admission = Admission(brokers=frozenset({broker.public}))
    async with running_relay(admission=admission) as relay:
        # Five minutes after its expiry a token is still taken; these have less than that left.
        async with relay.challenged() as (client, challenge):
            await client.send(proof(keys, challenge, broker.token(keys.device, lasts_ms=-299_000)))
            welcome = await client.receive()
            assert welcome == Welcome(1)
            assert await client.closed() == (4401, "this device may no longer use the relay")
        async with relay.challenged() as (client, challenge):
            await client.send(proof(other, challenge, broker.token(other.device, lasts_ms=-299_000)))
            assert await client.receive() == Welcome(1)
            await client.send(Renewal(broker.token(other.device, lasts_ms=3_600_000)))
            await client.listen(TAG)
            device = relay.relay.registry._devices[other.device]
            assert device.admitted_until is not None and device.admitted_until > relay.relay.now() + 3_000_000
            await client.send(Renewal(broker.token(keys.device)))
            assert (await client.closed())[0] == 4401


async def test_a_pipe_does_not_outlast_the_admission_of_its_device() -> None:
    broker, near_keys, far_keys = Broker(), Keys(), Keys()
    async with (
        running_relay(admission=Admission(brokers=frozenset({broker.public}))) as relay,
        relay.control(near_keys, broker.token(near_keys.device)) as caller,
        relay.control(far_keys, broker.token(far_keys.device, user=b"v" * 16)) as callee,
    ):
        await callee.listen(TAG)
        async with relay.joined(caller, callee, TAG) as (near, far):
            await far.socket.send_message(b"x")
            assert await near.socket.get_message() == b"x"
            relay.relay.registry._devices[far_keys.device].admitted_until = relay.relay.now() - 1
            await near.socket.send_message(b"x")  # the other one's has not ended
            assert await far.socket.get_message() == b"x"
            await far.socket.send_message(b"x")
            assert await far.closed() == (4401, "this device may no longer use the relay")
            assert (await near.closed())[0] == 1000


@pytest.mark.parametrize("renewed", ["another broker's", "another user's"])
async def test_a_renewal_of_somebody_else_ends_the_connection(renewed: str) -> None:
    broker, keys = Broker(), Keys()
    async with (
        running_relay(admission=Admission(brokers=frozenset({broker.public}))) as relay,
        relay.control(keys, broker.token(keys.device)) as client,
    ):
        if renewed == "another user's":
            await client.send(Renewal(broker.token(keys.device, user=b"v" * 16)))
            assert (await client.closed())[0] == 4401
        else:
            await client.send(Renewal(Broker().token(keys.device)))
            assert (await client.closed())[0] == 4403


async def test_a_user_has_so_many_devices_and_pipes() -> None:
    broker, keys = Broker(), [Keys() for _ in range(3)]
    limits = RelayLimits(devices_per_user=2, pipes_per_user=3, pending_per_device=10)
    async with (
        running_relay(admission=Admission(brokers=frozenset({broker.public})), limits=limits) as relay,
        relay.control(keys[0], broker.token(keys[0].device)) as first,
        relay.control(keys[1], broker.token(keys[1].device)) as second,
    ):
        async with relay.challenged() as (third, challenge):
            await third.send(proof(keys[2], challenge, broker.token(keys[2].device)))
            assert (await third.closed())[0] == 4429
        stranger = Keys()
        async with relay.control(stranger, broker.token(stranger.device, user=b"v" * 16)):
            pass
        for client in (first, second, first):
            assert isinstance(await client.ring(1, OTHER_TAG), Ticket)
        assert await second.ring(2, OTHER_TAG) == Refusal(2, 429)


async def test_rings_are_limited_and_answered_all_the_same() -> None:
    async with (
        running_relay(limits=RelayLimits(ring_burst=3, rings_per_minute=1)) as relay,
        relay.control(Keys()) as client,
    ):
        for number in range(3):
            assert isinstance(await client.ring(number, TAG), Ticket)
        assert await client.ring(3, TAG) == Refusal(3, 429)
        assert await client.ring(4, TAG) == Refusal(4, 429)


async def test_a_user_sends_so_many_bytes_a_day_and_whoever_receives_does_not_pay() -> None:
    day = 24 * 3600 * 1000
    now = [100 * day]
    limits = RelayLimits(bytes_per_day=1000)
    async with running_relay(limits=limits, clock=lambda: now[0]) as relay, two(relay) as (caller, callee):
        async with relay.joined(caller, callee, TAG) as (near, far):
            await near.socket.send_message(b"x" * 1000)
            assert await far.socket.get_message() == b"x" * 1000
            await near.socket.send_message(b"x")
            assert await near.closed() == (4429, "this user's data limit for today is used up")
            assert (await far.closed())[0] == 1000
        assert await caller.ring(5, TAG) == Refusal(5, 429)
        await caller.send(Listen((OTHER_TAG,)))
        assert await caller.ring(6, TAG) == Refusal(6, 429)
        # The one that received may still send, to the very device that may not.
        async with relay.joined(callee, caller, OTHER_TAG) as (near, far):
            await near.socket.send_message(b"y" * 500)
            assert await far.socket.get_message() == b"y" * 500
        now[0] += day
        async with relay.joined(caller, callee, TAG) as (near, far):
            await near.socket.send_message(b"z")
            assert await far.socket.get_message() == b"z"


async def test_the_relay_pings_and_ends_whoever_is_silent() -> None:
    limits = RelayLimits(ping_seconds=0.05, silence_seconds=0.15)
    async with running_relay(limits=limits) as relay:
        async with relay.challenged() as (client, challenge):
            await client.send(proof(Keys(), challenge))
            assert isinstance(await client.receive(), Welcome)
            stream = next(iter(relay.relay.connections)).stream
            assert stream is not None
            first = stream.heard
            await relay.until(lambda: stream.heard > first + 0.2)  # its pongs are heard, and it stays
        # Admitted, so that it is not the time of the handshake that ends it.
        async with relay.by_hand(CONTROL_PATH) as hand:
            sent = messages.decode(await hand.message())
            assert isinstance(sent, messages.Challenge)
            await hand.send(messages.encode(proof(Keys(), sent)))
            assert b"nothing was received from this device for too long" in await hand.rest()


async def test_idle_pipes_are_closed() -> None:
    async with (
        running_relay(limits=RelayLimits(pipe_idle_seconds=0.2)) as relay,
        two(relay) as (caller, callee),
        relay.joined(caller, callee, TAG) as (near, far),
    ):
        assert {(await near.closed())[0], (await far.closed())[0]} <= {4408, 1000}


async def test_health_and_numbers_and_nothing_else(relay: Running) -> None:
    url = f"http://127.0.0.1:{relay.port}"
    async with relay.control(Keys()), httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"{url}/health")).json() == {"status": "ok"}
        numbers = (await http.get(f"{url}/metrics")).text
        assert "dispatch_relay_devices 1\n" in numbers and "dispatch_relay_bytes_total 0\n" in numbers
        for path, status in (("/", 404), ("/health/", 404), (CONTROL_PATH, 426), (PIPE_PATH, 426)):
            response = await http.get(url + path)
            assert response.status_code == status and response.headers["connection"] == "close"
        assert (await http.post(f"{url}/health", content=b"x")).status_code == 405
        assert (await http.post(url + CONTROL_PATH, content=b"x" * 100_000)).status_code == 405


async def test_whoever_asks_is_told_where_its_own_connection_comes_from() -> None:
    async with running_relay() as relay:
        with trio.fail_after(HANG):
            stream = await trio.open_tcp_stream("127.0.0.1", relay.port)
            await stream.send_all(
                f"GET {ADDRESS_PATH} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n".encode()
            )
            said = b"".join([piece async for piece in stream])
        address, port = stream.socket.getsockname()
        assert parse_seen(said.partition(b"\r\n\r\n")[2]) == Endpoint(ip_address(address), port)
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.post(f"http://127.0.0.1:{relay.port}{ADDRESS_PATH}")).status_code == 405


async def test_behind_a_proxy_nobody_is_told_the_proxys_address() -> None:
    """It knows no port of whoever asks; and a proxy may have left X-Forwarded-For out."""
    async with running_relay(proxies=("127.0.0.1",)) as relay, httpx.AsyncClient(trust_env=False) as http:
        for headers in ({}, {"x-forwarded-for": "192.0.2.7"}):
            response = await http.get(f"http://127.0.0.1:{relay.port}{ADDRESS_PATH}", headers=headers)
            assert response.status_code == 404 and "127.0.0.1" not in response.text


async def test_the_numbers_are_for_the_relays_machine_alone() -> None:
    """They say whether somebody is connected. A proxy says who asks."""
    async with running_relay(proxies=("127.0.0.1",)) as relay, httpx.AsyncClient(trust_env=False) as http:
        url = f"http://127.0.0.1:{relay.port}"
        assert (await http.get(f"{url}/metrics")).status_code == 200
        forwarded = {"x-forwarded-for": "192.0.2.7"}
        assert (await http.get(f"{url}/metrics", headers=forwarded)).status_code == 403
        assert (await http.get(f"{url}/health", headers=forwarded)).status_code == 200


async def test_secret_and_broker_side_by_side() -> None:
    broker, keys = Broker(), Keys()
    async with (
        running_relay(admission=Admission(frozenset({broker.public}), SECRET)) as relay,
        relay.control(Keys()),
        relay.control(keys, broker.token(keys.device)),
    ):
        assert relay.relay.registry.devices_connected == 2
