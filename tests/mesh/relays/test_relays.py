"""Devices that reach each other through a relay, and relays that lie, withhold, join the wrong ends or replay."""

from __future__ import annotations

import dataclasses
import os
import ssl

import pytest
import trio

from peer.mesh.host import MeshHost
from peer.mesh.paths import PathKeeper
from peer.mesh.relays import RelayLimits, Route, websocket
from peer.mesh.relays.control import ASKED_AT_ONCE
from peer.mesh.streams import Stream
from peer.protocol.errors import NO_FIX, Unavailable
from peer.protocol.relays import messages as m
from peer.protocol.relays import rings
from peer.protocol.relays.addresses import to_multiaddr
from rendezvous.relay.admission import Admission
from tests.company_proxy import IN_ADDRESS, company_proxy
from tests.conftest import HANG
from tests.mesh.harness import count_tasks, until
from tests.mesh.relays.harness import acquainted, device, now, running
from tests.mesh.relays.hostile import HostileRelay
from tests.mesh.wire import Wire
from tests.rendezvous.relay.world import running_relay

ECHO = "/test/echo/1"
FAST = RelayLimits(first_retry=0.02, joined=HANG)


async def echo(stream: Stream) -> None:
    while True:
        await stream.write(await stream.read(65536, deadline=HANG), deadline=HANG)


async def said_back(host: MeshHost, peer_id: str, data: bytes) -> bytes:
    stream = await host.open_stream(peer_id, ECHO)
    back = b""

    async def write() -> None:
        await stream.write(data, deadline=HANG)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        while len(back) < len(data):
            back += await stream.read(65536, deadline=HANG)
    await stream.reset()
    return back


async def test_two_devices_that_only_a_relay_joins_have_a_connection() -> None:
    relay, alice, bob = HostileRelay(), device(), device()
    bob.host.handle(ECHO, echo)
    tasks = count_tasks()
    async with relay.running():
        at = [to_multiaddr(relay.origin)]
        async with running(alice, bob, at=relay.origin):
            assert alice.relays.addresses() == at
            await relay.until(lambda: len(relay.tags) == 2)
            await alice.host.connect(bob.id, at)
            assert alice.host.path(bob.id) == "relay"
            await until(lambda: bob.host.path(alice.id) == "relay")
            data = os.urandom(3_000_000)
            assert await said_back(alice.host, bob.id, data) == data
    await until(lambda: count_tasks() == tasks)


async def test_attempts_at_a_relay_that_is_gone_are_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hears of one looks whether what is announced still holds, at each broker."""
    tried, told = 0, list[list[str]]()

    async def gone(*_where: object, **_how: object) -> None:
        nonlocal tried
        tried += 1
        raise Unavailable("nothing listens there", fix=NO_FIX)

    relay, alice = HostileRelay(), device(limits=FAST)
    alice.relays.on_changed(lambda: told.append(alice.relays.addresses()))
    async with relay.running(), running(alice, at=relay.origin):
        assert told == [[to_multiaddr(relay.origin)]]
        monkeypatch.setattr(websocket, "open_websocket", gone)
        await relay.devices[alice.id].send_message(b"no message of a relay")
        await until(lambda: tried > 4)
        assert told[1:] == [[]]
        alice.relays.set_relays(chosen=[], named=[], token=b"")
        await until(lambda: not alice.relays.state())
        assert told[1:] == [[]]


async def test_a_relay_that_alters_one_byte_ends_the_connection() -> None:
    relay, alice, bob = HostileRelay(), device(), device()
    bob.host.handle(ECHO, echo)
    async with relay.running(), running(alice, bob, at=relay.origin):
        await alice.host.connect(bob.id, [to_multiaddr(relay.origin)])
        assert await said_back(alice.host, bob.id, b"before") == b"before"
        relay.passes_on = lambda piece: piece[:-1] + bytes([piece[-1] ^ 1])
        with pytest.raises(Unavailable):
            await said_back(alice.host, bob.id, b"after")
        await until(lambda: not alice.host.connected(bob.id) and not bob.host.connected(alice.id))


async def test_a_relay_that_joins_another_contact_gets_no_connection() -> None:
    """Bob answers Alice's ring; the relay puts Carol, a contact of his too, at the other end."""
    relay, alice, bob, carol = HostileRelay(), device(), device(), device()
    async with relay.running(), running(alice, bob, carol, at=relay.origin):
        ticket = os.urandom(16)

        async def crossed(ring: m.Ring) -> None:
            by_alice = len(relay.rings) == 1
            if by_alice:
                relay.tickets[ticket] = "crossed"
                callee = relay.tags[ring.tag]
                await callee.send_message(m.encode(m.Incoming(ring.tag, ring.sealed, ticket)))
            else:
                others = os.urandom(16)
                relay.tickets[others] = "crossed"
                caller = relay.devices[carol.id]
                await caller.send_message(m.encode(m.Ticket(ring.number, others)))

        await relay.until(lambda: len(relay.tags) == 6)
        relay.on_ring = crossed
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fails_to_connect, alice.host, bob.id, relay.origin)
            await relay.until(lambda: ticket in relay.joined)
            await _fails_to_connect(carol.host, bob.id, relay.origin)
            nursery.cancel_scope.cancel()
        assert bob.host.path(carol.id) is None and bob.host.path(alice.id) is None


async def _fails_to_connect(host: MeshHost, peer_id: str, origin: str) -> None:
    with pytest.raises(Unavailable):
        await host.connect(peer_id, [to_multiaddr(origin)])


async def test_a_challenge_of_another_relay_is_not_signed() -> None:
    relay, alice = HostileRelay(claims="https://other.example"), device(limits=FAST)
    async with relay.running(), alice.host.running():
        alice.relays.set_relays(chosen=[relay.origin], named=[], token=b"")
        await until(lambda: relay.connections > 2)
        assert relay.proofs == [] and alice.relays.addresses() == []


@pytest.mark.parametrize("word", [b"", b"\xff" * 100, m.encode(m.Joined()), bytes(m.MAX_MESSAGE + 1), "text"])
async def test_garbage_ends_the_connection_and_no_more(word: bytes | str) -> None:
    bad, good, alice = HostileRelay(first_words=[word]), HostileRelay(), device(limits=FAST)
    async with bad.running(), good.running(), alice.host.running():
        alice.relays.set_relays(chosen=[bad.origin, good.origin], named=[], token=b"")
        await until(lambda: bad.connections > 2)
        await until(lambda: alice.relays.state() == {bad.origin: False, good.origin: True})


async def test_a_ring_that_comes_again_is_not_answered_again() -> None:
    relay, alice, bob = HostileRelay(), device(), device()
    async with relay.running(), running(alice, bob, at=relay.origin):
        await alice.host.connect(bob.id, [to_multiaddr(relay.origin)])
        before = len(relay.joined)
        for _ in range(3):
            await relay.announce(relay.rings[0])
        # A ring of now is answered behind them, so they have been looked at.
        alice.host.drop(bob.id)
        await until(lambda: not alice.host.connected(bob.id))
        await alice.host.connect(bob.id, [to_multiaddr(relay.origin)])
        assert len(relay.joined) == before + 2


@pytest.mark.parametrize("off", [-6 * 60_000, 6 * 60_000])
async def test_a_ring_of_another_time_is_not_answered(off: int) -> None:
    relay, alice, bob = HostileRelay(), device(clock=lambda: now() + off, limits=RelayLimits(joined=0.2)), device()
    async with relay.running(), running(alice, bob, at=relay.origin):
        await _fails_to_connect(alice.host, bob.id, relay.origin)
        assert len(relay.rings) == len(relay.joined) == 1, "the caller's end alone"


async def test_a_device_that_is_no_contact_any_more_is_not_listened_for() -> None:
    relay, alice, bob = HostileRelay(), device(limits=RelayLimits(joined=0.2)), device()
    told: list[m.Listen] = relay.lists
    async with relay.running(), running(alice, bob, at=relay.origin):
        await relay.until(lambda: len(relay.tags) == 2)
        bob.relays.set_contacts({})
        await relay.until(lambda: m.Listen(()) in told)
        await _fails_to_connect(alice.host, bob.id, relay.origin)
        assert len(relay.joined) == 1, "and a relay that rings all the same gets no answer"
        with pytest.raises(Unavailable):
            await bob.relays.dial(alice.id, relay.origin)


async def test_rings_of_a_relay_are_ignored() -> None:
    relay, alice, bob = HostileRelay(), device(), device()
    async with relay.running(), running(alice, bob, at=relay.origin):
        await relay.until(lambda: len(relay.tags) == 2)
        for tag, connection in list(relay.tags.items()):
            for made_up in (tag, os.urandom(16)):
                ring = m.Incoming(made_up, os.urandom(120), os.urandom(16))
                await connection.send_message(m.encode(ring))
        await alice.host.connect(bob.id, [to_multiaddr(relay.origin)])
        assert len(relay.joined) == 2


@pytest.mark.parametrize(("a_minute", "at_once"), [(5, 3), (3, 6)])
async def test_a_contact_that_rings_without_end_is_answered_so_often_and_no_more(a_minute: int, at_once: int) -> None:
    limits = RelayLimits(rings_per_minute=a_minute, pipes_per_device=at_once, joined=HANG)
    relay, alice, bob = HostileRelay(), device(), device(limits=limits)
    async with relay.running(), running(alice, bob, at=relay.origin):
        control = alice.relays._kept[relay.origin].control
        line = next(iter(bob.relays._lines[relay.origin].values()))
        for _ in range(30):
            await control.ring(line.tag, line.seal(now()))
        # Not one of Alice's ends has come, so those that Bob took are still open.
        await relay.until(lambda: len(relay.joined) == 3)
        bob.relays.set_contacts({})
        await relay.until(lambda: relay.lists[-1] == m.Listen(()))
        assert len(relay.joined) == 3


async def test_a_relay_that_does_not_admit_is_asked_again_with_a_new_token() -> None:
    relay, alice = HostileRelay(welcome=False), device()
    async with relay.running(), alice.host.running():
        alice.relays.set_relays(chosen=[relay.origin], named=[], token=b"one")
        await relay.until(lambda: len(relay.proofs) == 1)
        relay.welcome = True
        alice.relays.set_relays(chosen=[relay.origin], named=[], token=b"two")
        await alice.up()
        assert [proof.token for proof in relay.proofs] == [b"one", b"two"]


async def test_a_relay_for_its_owners_contacts_is_asked_again_soon() -> None:
    """Whoever has just become a contact is on the owner's list a moment later."""
    bob = device(limits=RelayLimits(first_retry=0.02, longest_retry=0.02))
    async with running_relay(admission=Admission(contacts_file="/nowhere")) as relay:
        bob.relays.set_relays(chosen=[relay.relay.origin], named=[], token=b"")
        async with bob.host.running():
            await relay.until(lambda: relay.relay.refused["not_allowed"] >= 2)
            relay.relay.admission = Admission(contacts_file="/nowhere", contacts={bob.id: b"p" * 16})
            await bob.up()


async def test_the_owners_secret_goes_to_chosen_relays_alone() -> None:
    chosen, named, alice = HostileRelay(), HostileRelay(), device()
    async with chosen.running(), named.running(), alice.host.running():
        alice.relays.set_relays(chosen=[chosen.origin], named=[named.origin], token=b"token", secret=b"secret")
        await alice.up()
        assert [proof.token for proof in (*chosen.proofs, *named.proofs)] == [b"secret", b"token"]


async def test_a_relay_gets_the_tokens_of_the_brokers_that_name_it_one_after_the_other() -> None:
    """So no broker keeps devices out of another one's relay by naming it too. Seen to fail with one token alone."""
    both, first, alice = HostileRelay(welcome=False), HostileRelay(welcome=False), device()
    alice.relays.limits = dataclasses.replace(alice.relays.limits, first_retry=0.01)
    async with both.running(), first.running(), alice.host.running():
        tokens = {both.origin: (b"one", b"two")}
        alice.relays.set_relays(chosen=[], named=[both.origin, first.origin], token=b"one", tokens=tokens)
        await both.until(lambda: len(both.proofs) == 2)
        await until(lambda: all(kept.refused for kept in alice.relays._kept.values()))
        assert [proof.token for proof in both.proofs] == [b"one", b"two"]
        assert [proof.token for proof in first.proofs] == [b"one"]


async def test_without_relays_none_is_dialled() -> None:
    relay, alice, bob = HostileRelay(), device(), device()
    async with relay.running(), running(alice, bob, at=relay.origin):
        alice.relays.set_relays(chosen=[relay.origin], named=[], token=b"", none=True)
        await until(lambda: alice.relays._kept == {})
        before = relay.connections
        with pytest.raises(Unavailable):
            await alice.relays.dial(bob.id, relay.origin)
        assert alice.relays.addresses() == [] and alice.relays._kept == {} and relay.connections == before


async def test_a_contact_is_rung_at_its_own_relay_which_is_left_when_idle() -> None:
    theirs, alice, bob = HostileRelay(), device(limits=RelayLimits(idle=0.2)), device()
    acquainted(alice, bob)
    async with theirs.running(), alice.host.running(), bob.host.running():
        bob.relays.set_relays(chosen=[theirs.origin], named=[], token=b"")
        await bob.up()
        await theirs.until(lambda: len(theirs.tags) == 1)
        await alice.host.connect(bob.id, bob.relays.addresses())
        assert alice.host.path(bob.id) == "relay" and alice.relays.addresses() == []
        await until(lambda: alice.relays._kept == {})
        assert alice.host.path(bob.id) == "relay", "its pipe is another connection"


async def test_the_end_of_a_relay_ends_the_connection_at_both_ends() -> None:
    alice, bob = device(limits=FAST), device(limits=FAST)
    async with alice.host.running(), bob.host.running():
        acquainted(alice, bob)
        async with HostileRelay().running() as relay:
            for one in (alice, bob):
                one.relays.set_relays(chosen=[relay.origin], named=[], token=b"")
                await one.up()
            await relay.until(lambda: len(relay.tags) == 2)
            await alice.host.connect(bob.id, bob.relays.addresses())
            await until(lambda: bob.host.connected(alice.id))
        await until(lambda: not alice.host.connected(bob.id) and not bob.host.connected(alice.id))
        await until(lambda: alice.relays.addresses() == [])


@pytest.mark.parametrize("up", [True, False], ids=["connected", "being connected"])
async def test_after_another_network_a_relay_answers_or_is_connected_anew(
    monkeypatch: pytest.MonkeyPatch, up: bool
) -> None:
    """Seen to fail without the proof, and where an attempt under way was waited for."""
    monkeypatch.setattr(websocket, "OPENED_WITHIN", HANG * 10)
    relay, alice = HostileRelay(), device(limits=RelayLimits(first_retry=HANG * 10))
    async with relay.running(), alice.host.running():
        wire = Wire(int(relay.origin.rpartition(":")[2]))
        async with wire.running():
            relay.claims = f"http://127.0.0.1:{wire.port}"
            if not up:
                wire.cut()
            alice.relays.set_relays(chosen=[relay.claims], named=[], token=b"")
            if up:
                await alice.up()
                wire.cut()
                alice.relays.renew(0.3)
                await until(lambda: wire.taken == 2)
            else:
                await until(lambda: wire.taken == 1)
            wire.cut()
            before = wire.taken
            alice.relays.renew(0.3)
            await until(lambda: wire.taken > before)
            wire.mend()
            await alice.up()


async def test_another_network_changes_nothing_about_a_refusal() -> None:
    relay, alice = HostileRelay(welcome=False), device(limits=FAST)
    async with relay.running(), alice.host.running():
        alice.relays.set_relays(chosen=[relay.origin], named=[], token=b"")
        await relay.until(lambda: relay.connections == 1)
        kept = alice.relays._kept[relay.origin]
        await until(lambda: kept.refused)
        alice.relays.renew(0.3)
        assert not kept.again.is_set()


async def test_a_relay_that_answers_stays_connected() -> None:
    relay, alice = HostileRelay(), device(limits=FAST)
    async with relay.running(), alice.host.running():
        alice.relays.set_relays(chosen=[relay.origin], named=[], token=b"")
        await alice.up()
        control = alice.relays._kept[relay.origin].control
        proven = control._doubt
        alice.relays.renew(HANG)
        await until(lambda: control._doubt is not proven)
        assert relay.connections == 1 and alice.relays.addresses()


async def test_a_direct_path_that_appears_is_taken_and_the_relay_left() -> None:
    relay, alice, bob = HostileRelay(), device(), device()
    bob.host.handle(ECHO, echo)
    known: list[str] = []

    async def addresses(_device: str) -> list[str]:
        return known

    async with relay.running(), running(alice, bob, at=relay.origin), trio.open_nursery() as nursery:
        keeper = PathKeeper(alice.host, addresses, waits=(0.01, 600.0), linger=0.01)
        nursery.start_soon(keeper.run)
        await alice.host.connect(bob.id, bob.relays.addresses())
        stream = await alice.host.open_stream(bob.id, ECHO)
        assert alice.host.path(bob.id) == "relay"
        known += bob.host.addresses()
        # What a change of network does: the next attempt is at once.
        while alice.host.path(bob.id) != "direct":
            keeper.network_changed()
            await trio.sleep(0.01)
        await until(lambda: not alice.host.relayed() and not bob.host.relayed())
        with pytest.raises(Unavailable):
            await stream.read(1, deadline=HANG)
        assert await said_back(alice.host, bob.id, b"directly") == b"directly"
        nursery.cancel_scope.cancel()


async def test_a_relay_is_reached_through_the_http_proxy() -> None:
    relay = HostileRelay()
    with company_proxy() as proxy:
        url = f"http://{IN_ADDRESS}@127.0.0.1:{proxy.server_address[1]}"
        route = Route(proxy=lambda _host, _port: url, trusted=ssl.create_default_context)
        alice = device(route=route)
        async with relay.running(), alice.host.running():
            alice.relays.set_relays(chosen=[relay.origin], named=[], token=b"")
            await alice.up()
            assert proxy.heads[0][0] == f"CONNECT {relay.origin.removeprefix('http://')} HTTP/1.1"


@pytest.mark.parametrize(
    ("address", "chosen", "loopback_alone", "allowed"),
    [
        ("192.0.2.1", False, False, False),
        ("93.184.216.34", False, False, True),
        ("10.0.0.1", False, False, False),
        ("10.0.0.1", True, False, True),
        ("127.0.0.1", False, False, False),
        ("127.0.0.1", False, True, True),
        ("127.0.0.1", True, False, True),
        ("fe80::1%eth0", False, True, False),
        ("169.254.169.254", False, True, False),
    ],
)
async def test_which_addresses_of_a_relay_are_dialled(
    address: str, chosen: bool, loopback_alone: bool, allowed: bool
) -> None:
    found = await websocket.permitted([address], chosen=chosen, loopback_alone=loopback_alone)
    assert found == ([address] if allowed else [])


async def test_rings_that_are_remembered_are_bounded() -> None:
    """One more is refused, until the oldest is too old to come again."""
    ahead = [0]
    limits = RelayLimits(rings_remembered=2, joined=0.05)
    relay, alice, bob = HostileRelay(), device(), device(limits=limits, clock=lambda: now() + ahead[0])
    async with relay.running(), running(alice, bob, at=relay.origin):
        await relay.until(lambda: len(relay.tags) == 2)
        control = alice.relays._kept[relay.origin].control
        line = next(iter(bob.relays._lines[relay.origin].values()))
        for _ in range(4):
            await control.ring(line.tag, line.seal(now()))
        await until(lambda: len(relay.joined) == 2 and len(bob.relays._guard._seen) == 2)
        ahead[0] = 2 * rings.WINDOW_MS + 60_000
        await control.ring(line.tag, line.seal(now() + ahead[0]))
        await until(lambda: len(relay.joined) == 3 and len(bob.relays._guard._seen) == 1)


async def test_contacts_have_so_many_relays_and_no_more() -> None:
    first, second, alice, bob = HostileRelay(), HostileRelay(), device(limits=RelayLimits(of_contacts=1)), device()
    acquainted(alice, bob)
    async with first.running(), second.running(), alice.host.running(), bob.host.running():
        bob.relays.set_relays(chosen=[first.origin, second.origin], named=[], token=b"")
        await bob.up()
        await first.until(lambda: len(first.tags) == 1)
        pipe = await alice.relays.dial(bob.id, first.origin)
        with pytest.raises(Unavailable, match="too many relays"):
            await alice.relays.dial(bob.id, second.origin)
        await pipe.close()


async def test_rings_without_a_ticket_are_bounded() -> None:
    relay, alice, bob = HostileRelay(), device(), device()

    async def no_ticket(_ring: m.Ring) -> None: ...

    relay.on_ring = no_ticket
    async with relay.running(), running(alice, bob, at=relay.origin), trio.open_nursery() as nursery:
        control = alice.relays._kept[relay.origin].control
        for _ in range(ASKED_AT_ONCE):
            nursery.start_soon(control.ring, bytes(16), b"sealed")
        await relay.until(lambda: len(relay.rings) == ASKED_AT_ONCE)
        with pytest.raises(Unavailable, match="not connected"):
            await control.ring(bytes(16), b"sealed")
        nursery.cancel_scope.cancel()
