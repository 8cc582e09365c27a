"""Devices that find each other on a local network, and strangers there who learn nothing and keep nobody out."""

from __future__ import annotations

import errno
import ipaddress
import os
from dataclasses import replace
from functools import partial

import pytest
import trio
from libp2p.network.exceptions import SwarmException
from structlog.testing import capture_logs
from zeroconf import DNSIncoming, DNSService

from peer.mesh.lan import MaskedStream, Way, packets, site
from peer.mesh.lan.lan import MAX_CONTACTS
from peer.mesh.lan.links import Link
from peer.mesh.lan.site import ANNOUNCED
from peer.mesh.streams import Stream
from peer.protocol import lan, names
from peer.protocol.errors import Unavailable
from tests.conftest import HANG
from tests.mesh.harness import count_tasks, until
from tests.mesh.lan.harness import QUICK, Device, Wire, WireAir, acquainted, beacon_of, connect, device, running

ECHO = "/test/echo/1"


async def echo(stream: Stream) -> None:
    while True:
        await stream.write(await stream.read(65536, deadline=HANG), deadline=HANG)


async def met(*devices: Device) -> None:
    for one in devices:
        for other in devices:
            if other is not one:
                await until(lambda one=one, other=other: one.host.path(other.id) == "direct")  # type: ignore[misc]


async def test_two_contacts_find_each_other_and_talk() -> None:
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    bob.host.handle(ECHO, echo)
    tasks = count_tasks()
    async with running(alice, bob):
        await met(alice, bob)
        stream = await alice.host.open_stream(bob.id, ECHO)
        data, back = os.urandom(3_000_000), b""

        async def write() -> None:
            await stream.write(data, deadline=HANG)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            while len(back) < len(data):
                back += await stream.read(65536, deadline=HANG)
        assert back == data
        await stream.reset()
    await until(lambda: count_tasks() == tasks)


async def test_who_comes_later_asks_and_is_answered() -> None:
    """Alice has been announced long ago, and does not look for Bob, who looks for her."""
    wire = Wire()
    alice, bob, carol = (device(wire, number) for number in (1, 2, 3))
    alice.knows(carol, told=[bob, carol])
    bob.knows(alice)
    async with running(alice):
        first = await beacon_of(wire, alice)
        await until(lambda: sum(packets.read(packet) == first for _, packet in wire.sent) == len(ANNOUNCED))
        async with running(bob):
            await met(alice, bob)
    assert wire.beacons(alice.ip) == [first]


async def test_strangers_do_not_meet() -> None:
    wire = Wire()
    alice, bob, carol = (device(wire, number) for number in (1, 2, 3))
    acquainted(alice, bob)
    carol.knows(device(wire, 4))
    async with running(carol, alice, bob):
        await met(alice, bob)
        assert not carol.host.connected(alice.id) and not carol.host.connected(bob.id)
        assert not carol.lan.ways(alice.id) and not alice.lan.ways(carol.id)


async def test_without_contacts_or_turned_off_nothing_is_sent() -> None:
    wire = Wire()
    alone, off, alice, bob = (device(wire, number) for number in (1, 2, 3, 4))
    acquainted(alice, bob, off)
    off.lan.set_on(False)
    async with running(alone, off, alice, bob):
        await met(alice, bob)
        assert {ip for ip, _ in wire.sent} == {alice.ip, bob.ip}
        off.lan.set_on(True)
        await until(lambda: off.host.path(alice.id) == "direct")
        alice.lan.set_on(False)
        await until(lambda: alice.ip not in wire.on)
        last = [packet for ip, packet in wire.sent if ip == alice.ip][-1]
        assert packets.read(last) is None, "the last word takes the beacon back"
        assert alice.host.connected(bob.id), "what is connected stays"


async def test_a_link_that_goes_takes_what_was_seen_there_along() -> None:
    wire = Wire()
    alice, bob = (device(wire, number, limits=replace(QUICK, look=0.02)) for number in (1, 2))
    acquainted(alice, bob)
    async with running(alice, bob):
        await until(lambda: bool(alice.lan.ways(bob.id)))
        alice.links.clear()
        await until(lambda: not alice.lan.ways(bob.id) and alice.ip not in wire.on)


async def test_on_another_network_it_looks_at_once() -> None:
    wire = Wire()
    alice, bob = (device(wire, number, limits=replace(QUICK, look=float("inf"))) for number in (1, 2))
    acquainted(alice, bob)
    at_home = alice.links.copy()
    alice.links.clear()
    async with running(alice, bob):
        await until(lambda: bob.ip in wire.on)
        alice.links.extend(at_home)
        alice.lan.network_changed()
        await until(lambda: bool(alice.lan.ways(bob.id)))


async def test_where_the_access_point_keeps_machines_apart_other_ways_are_taken() -> None:
    wire = Wire(isolated=True)
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    async with running(alice, bob):
        await beacon_of(wire, bob)
        with pytest.raises(Unavailable):
            await alice.host.connect(bob.id, [])
        await alice.host.connect(bob.id, bob.host.addresses())
        assert alice.host.path(bob.id) == "direct"


async def test_without_multicast_contacts_are_reached_by_address_and_it_is_said_once() -> None:
    """Nor does it end anything where this machine does not even say which interfaces it has."""
    wire = Wire()
    limits = replace(QUICK, look=0.01)
    alice, bob, carol = device(wire, 1, limits=limits), device(wire, 2), device(wire, 3, limits=limits)
    acquainted(alice, bob, carol)
    tried = 0

    def none(_link: Link) -> WireAir:
        nonlocal tried
        tried += 1
        raise OSError(errno.ENODEV, "No such device")

    alice.lan._air = none
    looked = 0

    def blind() -> list[Link]:
        nonlocal looked
        looked += 1
        raise OSError(errno.EMFILE, "Too many open files")

    carol.lan._look = blind
    with capture_logs() as logs:
        async with running(alice, bob, carol):
            await until(lambda: tried > 3 and looked > 3)
            for one in (alice, carol):
                await one.host.connect(bob.id, bob.host.addresses())
                assert one.host.path(bob.id) == "direct"
    said = [(each["event"], each["log_level"], each["why"]) for each in logs if each["event"].startswith("lan.")]
    assert sorted(said) == [
        ("lan.no_multicast", "info", "No such device"),
        ("lan.not_watched", "info", "Too many open files"),
    ]


# --- what a beacon shows


async def test_each_beacon_has_another_nonce_port_and_name() -> None:
    wire = Wire()
    limits = replace(QUICK, beacon=0.05, beacon_spread=0.0, old_port=0.0)
    alice, bob = device(wire, 1, limits=limits), device(wire, 2)
    acquainted(alice, bob)
    async with running(alice):
        await until(lambda: len(wire.beacons(alice.ip)) >= 3)
        found = wire.beacons(alice.ip)
        sent = [packet for ip, packet in wire.sent if isinstance(packets.read(packet), packets.Seen)]
        services = [each for packet in sent for each in DNSIncoming(packet).answers() if isinstance(each, DNSService)]
    labels = {(each.name.partition(".")[0], each.server.partition(".")[0]) for each in services}
    assert all(name == host for name, host in labels)
    assert len({each.nonce for each in found}) == len({each.port for each in found}) == len(found) == len(labels)
    assert not frozenset.intersection(*(each.marks for each in found))


async def test_a_beacon_names_nobody_and_tells_the_number_of_contacts_in_steps_of_16() -> None:
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    async with running(alice):
        beacon = await beacon_of(wire, alice)
    assert len(beacon.marks) == lan.STEP
    everything = b"".join(packet for _, packet in wire.sent)
    for one in (alice, bob):
        for secret in (one.id.encode(), names.peer_id_bytes(one.id)[6:], one.public):
            assert secret not in everything


# --- a removed contact


async def test_a_removed_contact_recognises_nothing_and_is_let_in_nowhere() -> None:
    wire = Wire()
    alice, bob, carol, dora = (device(wire, number) for number in (1, 2, 3, 4))
    acquainted(alice, bob, carol)
    async with running(alice):
        older = await beacon_of(wire, alice)
        alice.knows(bob, carol, dora)
        old = await beacon_of(wire, alice, after=[older])
        streams = [(each, await connect(alice.ip, each.port)) for each in (older, old)]
        alice.knows(carol, dora)
        for beacon, stream in streams:
            await refused(stream, pair_of(alice, bob, beacon).preface(os.urandom(16)))
        new = await beacon_of(wire, alice, after=[older, old])
        for beacon in (older, old):
            with pytest.raises(OSError):
                await connect(alice.ip, beacon.port)
        assert pair_of(alice, bob, old).mark in old.marks and pair_of(alice, bob, new).mark not in new.marks
        assert pair_of(alice, carol, new).mark in new.marks
        await refused(await connect(alice.ip, new.port), pair_of(alice, bob, new).preface(os.urandom(16)))


async def test_who_is_added_is_marked_and_others_on_their_way_still_get_in() -> None:
    wire = Wire()
    alice, bob, carol = (device(wire, number) for number in (1, 2, 3))
    acquainted(alice, bob)
    async with running(alice):
        old = await beacon_of(wire, alice)
        alice.knows(bob, carol)
        new = await beacon_of(wire, alice, after=[old])
        assert pair_of(alice, carol, new).mark in new.marks
        stream = await connect(alice.ip, old.port)
        await stream.send_all(pair_of(alice, bob, old).preface(os.urandom(16)))
        with trio.fail_after(HANG):
            assert await stream.receive_some()
        await stream.aclose()


async def test_who_is_blocked_is_recognised_but_not_told() -> None:
    """What waits for somebody blocked is still to be delivered; they do not see this device any more."""
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    alice.knows(bob, told=[])
    async with running(alice, bob):
        await met(alice, bob)
        assert bob.lan.ways(alice.id) == []


# --- strangers at the port


def pair_of(announcer: Device, reader: Device, beacon: packets.Seen) -> lan.Pair:
    ids = names.peer_id_bytes(announcer.id), names.peer_id_bytes(reader.id)
    return lan.Pair(announcer.secret_with(reader), *ids, beacon.nonce, lan.place(announcer.ip, beacon.port))


async def refused(stream: trio.SocketStream, *words: bytes) -> None:
    """Say these words, and see the connection end without a byte."""
    with trio.fail_after(HANG):
        try:
            for word in words:
                await stream.send_all(word)
            assert await stream.receive_some() == b""
        except trio.BrokenResourceError:
            pass
        await stream.aclose()


async def test_who_does_not_know_the_secret_gets_not_one_byte() -> None:
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    async with running(alice):
        beacon = await beacon_of(wire, alice)
        pair = pair_of(alice, bob, beacon)
        good = pair.preface(os.urandom(16))
        other = replace(pair, place=lan.place(alice.ip, beacon.port + 1))
        for preface in (
            bytes(lan.PREFACE_BYTES),
            os.urandom(lan.PREFACE_BYTES),
            good[:-1] + bytes([good[-1] ^ 1]),
            good[:8] + other.preface(os.urandom(16))[8:],
            b"\x13/multistream/1.0.0\n".ljust(lan.PREFACE_BYTES, b"\0"),
            b"GET / HTTP/1.1\r\n\r\n".ljust(lan.PREFACE_BYTES, b"\0"),
        ):
            await refused(await connect(alice.ip, beacon.port), preface)
        cut = await connect(alice.ip, beacon.port)
        await cut.send_all(good[:-1])
        await cut.send_eof()
        await refused(cut)
        assert not alice.host.refused


async def test_nobody_from_another_network_is_let_in() -> None:
    """Not with a contact's preface either: nothing here is for other networks than the link's own."""
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    alice.links[:] = [Link(1, alice.ip, ipaddress.ip_network("127.0.1.0/24"))]
    async with running(alice):
        beacon = await beacon_of(wire, alice)
        pair = pair_of(alice, bob, beacon)
        await refused(await connect(alice.ip, beacon.port, source="127.0.9.9"), pair.preface(os.urandom(16)))
        stream = await connect(alice.ip, beacon.port, source="127.0.1.9")
        await stream.send_all(pair.preface(os.urandom(16)))
        with trio.fail_after(HANG):
            assert await stream.receive_some()
        await stream.aclose()


@pytest.mark.parametrize("said", [b"", b"\0" * (lan.PREFACE_BYTES - 1)])
async def test_who_says_too_little_is_dropped_in_time_and_told_nothing(said: bytes) -> None:
    wire = Wire()
    alice, bob = device(wire, 1, limits=replace(QUICK, preface=0.05)), device(wire, 2)
    acquainted(alice, bob)
    async with running(alice):
        beacon = await beacon_of(wire, alice)
        await refused(await connect(alice.ip, beacon.port), said)


async def test_a_preface_counts_once_and_what_follows_is_masked() -> None:
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    async with running(alice):
        beacon = await beacon_of(wire, alice)
        preface = pair_of(alice, bob, beacon).preface(os.urandom(16))
        with trio.fail_after(HANG):
            stream = await connect(alice.ip, beacon.port)
            await stream.send_all(preface)
            first = await stream.receive_some()
            assert b"multistream" not in first and first, "it is answered, and not in clear"
            await refused(await connect(alice.ip, beacon.port), preface)
            await stream.aclose()


async def test_the_mask_is_over_so_many_bytes_whatever_the_pieces() -> None:
    """What is written in odd pieces is read in others; behind the mask bytes are as they were."""
    size = lan.MASKED_BYTES + 1_000
    data, keys = os.urandom(size), (os.urandom(32), os.urandom(32))
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    plain = await connect("127.0.0.1", listeners[0].socket.getsockname()[1])
    other = await listeners[0].accept()
    masked = MaskedStream(other, writes=keys[0], reads=keys[1])
    for at in range(0, size, 777):
        await masked.write(data[at : at + 777])
    came = b""
    with trio.fail_after(HANG):
        while len(came) < size:
            came += await plain.receive_some()
        assert came[lan.MASKED_BYTES :] == data[lan.MASKED_BYTES :]
        assert sum(one == two for one, two in zip(came, data[: lan.MASKED_BYTES], strict=False)) < 100
        back = MaskedStream(plain, writes=keys[1], reads=keys[0])
        await back.write(data)
        read = b""
        while len(read) < size:
            read += await masked.read(500)
        assert read == data
    for stream in (plain, other):
        await stream.aclose()
    await listeners[0].aclose()


async def test_a_contact_with_another_contacts_preface_is_no_peer() -> None:
    """Noise has to prove the device that the preface was of: Carol is a contact too, and has Bob's secret."""
    wire = Wire()
    alice, bob, carol = (device(wire, number) for number in (1, 2, 3))
    acquainted(alice, bob, carol)
    carol.lan.set_on(False)
    async with running(alice, carol):
        beacon = await beacon_of(wire, alice)
        pair, fresh = pair_of(alice, bob, beacon), os.urandom(16)
        stream = await connect(alice.ip, beacon.port)
        await stream.send_all(pair.preface(fresh))
        to_alice, to_reader = pair.masks(fresh)
        masked = MaskedStream(stream, writes=to_alice, reads=to_reader)
        with pytest.raises(SwarmException), trio.fail_after(HANG):
            await carol.host._swarm.upgrade_expected(masked, alice.id)
        assert alice.host.refused == 1
        assert not alice.host.connected(bob.id) and not alice.host.connected(carol.id)


async def test_a_contact_has_few_connections_and_prefaces() -> None:
    wire = Wire()
    limits = replace(QUICK, prefaces=8)
    alice, bob, carol = device(wire, 1, limits=limits), device(wire, 2), device(wire, 3)
    acquainted(alice, bob, carol)
    for one in (bob, carol):
        one.lan.set_on(False)
    async with running(alice, carol):
        beacon = await beacon_of(wire, alice)
        pair = pair_of(alice, bob, beacon)
        kept = [await connect(alice.ip, beacon.port) for _ in range(limits.connections_per_device)]
        for stream in kept:
            await stream.send_all(pair.preface(os.urandom(16)))
            assert await stream.receive_some()
        assert alice.lan._guests == {bob.id: limits.connections_per_device}
        await refused(await connect(alice.ip, beacon.port), pair.preface(os.urandom(16)))
        for stream in kept:
            await stream.aclose()
        await until(lambda: not alice.lan._guests)
        last = await connect(alice.ip, beacon.port)
        await last.send_all(pair.preface(os.urandom(16)))
        assert await last.receive_some()
        await refused(await connect(alice.ip, beacon.port), pair.preface(os.urandom(16)))
        await last.aclose()
        carol.lan.set_on(True)
        await met(alice, carol)


async def test_however_often_contacts_change_few_ports_are_open() -> None:
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    async with running(alice):
        others = [device(wire, number) for number in range(3, 13)]
        for number in range(len(others)):
            seen = wire.beacons(alice.ip)
            alice.knows(bob, *others[: number + 1])
            await beacon_of(wire, alice, after=seen)
        (where, _) = next(iter(alice.lan._sites.values()))
        await until(lambda: len(where._epochs) == QUICK.ports)
        first, *_, last = wire.beacons(alice.ip)
        with pytest.raises(OSError):
            await connect(alice.ip, first.port)
        await (await connect(alice.ip, last.port)).aclose()


async def test_of_very_many_contacts_so_many_are_recognised() -> None:
    wire = Wire()
    alice = device(wire, 1)
    many = {f"{number}": bytes([1]) * 32 for number in range(MAX_CONTACTS + 50)}
    known = {names.peer_id_text(names.peer_id_of(int(number).to_bytes(32, "big"))): key for number, key in many.items()}
    alice.lan.set_contacts(known.items(), known)
    assert len(alice.lan._told) == len(alice.lan._known) == len(alice.lan._sightings._keys) == MAX_CONTACTS
    assert len(alice.lan._secrets) <= 2 * MAX_CONTACTS
    alice.lan.set_contacts([], {})
    assert not alice.lan._secrets and not alice.lan._sightings._keys


async def test_half_open_connections_keep_no_contact_out() -> None:
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    bob.lan.set_on(False)
    async with running(alice, bob):
        beacon = await beacon_of(wire, alice)
        flood = [await connect(alice.ip, beacon.port) for _ in range(3 * QUICK.waiting)]
        (where, _) = next(iter(alice.lan._sites.values()))
        await until(lambda: where.waiting.entered == len(flood))
        assert len(where.waiting) == QUICK.waiting
        bob.lan.set_on(True)
        await met(alice, bob)
        for stream in flood:
            await stream.aclose()
        await until(lambda: not len(where.waiting))


# --- strangers' beacons


async def test_a_contacts_beacon_from_another_address_is_nobodys() -> None:
    """Whoever copies it would have contacts dial him, and see by that who they are to each other."""
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    async with running(alice, bob):
        await until(lambda: bool(alice.lan.ways(bob.id)))
        packet = next(
            packet for ip, packet in wire.sent if ip == bob.ip and isinstance(packets.read(packet), packets.Seen)
        )
        before = alice.lan.ways(bob.id)
        wire.send("127.0.1.66", packet)
        await until(lambda: any(way.ip == "127.0.1.66" for way in alice.lan._sightings._judged))
        assert alice.lan.ways(bob.id) == before and {way.ip for way in before} == {bob.ip}


async def test_a_forger_on_the_way_gets_a_preface_and_nothing_more() -> None:
    """One who answers at the address itself, as by forged ARP: Noise fails, and there is one dial at a time."""
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    said: list[bytes] = []
    async with running(alice), trio.open_nursery() as nursery:

        async def pose(stream: trio.SocketStream) -> None:
            said.append(await stream.receive_some(4096))
            await stream.send_all(os.urandom(1000))

        (listener,) = await nursery.start(partial(trio.serve_tcp, pose, 0, host=bob.ip))
        port = listener.socket.getsockname()[1]
        nonce = os.urandom(16)
        pair = pair_of(bob, alice, packets.Seen(port, nonce, frozenset()))
        await beacon_of(wire, alice)
        forged = packets.beacon("forged", port, nonce, lan.padded([pair.mark]))
        for _ in range(30):
            wire.send(bob.ip, forged)
        await until(lambda: len(said) > 0 and not alice.lan._met and not alice.lan._dialled)
        assert len(said) == 1 and not alice.host.connected(bob.id)
        nursery.cancel_scope.cancel()
    assert all(len(each) >= lan.PREFACE_BYTES and b"multistream" not in each for each in said)


async def test_one_device_is_dialled_so_often_and_once_at_a_time() -> None:
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    bob.lan.set_contacts([(alice.id, alice.public)], {})
    under_way, release = trio.Event(), trio.Event()

    async def wait(_stream: MaskedStream) -> None:
        under_way.set()
        await release.wait()
        raise OSError

    async def fail(_stream: MaskedStream) -> None:
        raise OSError

    async with running(alice), trio.open_nursery() as nursery:
        await beacon_of(wire, alice)
        bob_pair = pair_of(bob, alice, packets.Seen(9, bytes(16), frozenset()))
        (listener,) = await nursery.start(partial(trio.serve_tcp, lambda _: trio.sleep_forever(), 0, host=bob.ip))
        port = listener.socket.getsockname()[1]
        pair = replace(bob_pair, place=lan.place(bob.ip, port))
        way = Way(alice.links[0], bob.ip, port, bytes(16))
        assert alice.lan._sightings.see(way.link, bob.ip, packets.Seen(port, bytes(16), frozenset([pair.mark])), 0.0)

        async def first() -> None:
            with pytest.raises(OSError):
                await alice.lan.dial(bob.id, way, wait)

        async with trio.open_nursery() as dials:
            dials.start_soon(first)
            await under_way.wait()
            with pytest.raises(Unavailable, match="cannot be dialled"):
                await alice.lan.dial(bob.id, way, fail)
            release.set()
        for _ in range(QUICK.dials_per_minute - 1):
            with pytest.raises(OSError):
                await alice.lan.dial(bob.id, way, fail)
        with pytest.raises(Unavailable, match="too many"):
            await alice.lan.dial(bob.id, way, fail)
        nursery.cancel_scope.cancel()


async def test_a_thousand_beacons_of_strangers_are_few_comparisons() -> None:
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    compared = 0
    recognised = alice.lan._sightings._recognised

    def counted(way: Way, marks: frozenset[bytes]) -> str | None:
        nonlocal compared
        compared += 1
        return recognised(way, marks)

    alice.lan._sightings._recognised = counted  # type: ignore[method-assign]
    async with running(alice):
        await beacon_of(wire, alice)
        for number in range(5_000):
            marks = lan.padded([])
            wire.send(f"127.0.2.{number % 250}", packets.beacon(f"{number}", 1 + number, os.urandom(16), marks))
        await until(lambda: not wire.on[alice.ip].statistics().current_buffer_used)
        assert compared <= 100
        assert len(alice.lan._sightings._judged) <= 100


async def test_a_beacon_that_comes_back_as_on_loopback_is_not_compared() -> None:
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    async with running(alice):
        await beacon_of(wire, alice)
        for ip, packet in list(wire.sent):
            wire.on[alice.ip].send_nowait((packet, ip))
        await until(lambda: not wire.on[alice.ip].statistics().current_buffer_used)
        assert not alice.lan._sightings._judged
        wire.send("127.0.1.9", packets.beacon("other", 9, os.urandom(16), lan.padded([])))
        await until(lambda: len(alice.lan._sightings._judged) == 1)


async def test_a_thousand_packets_of_strangers_are_few_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire()
    alice, bob = device(wire, 1), device(wire, 2)
    acquainted(alice, bob)
    read = packets.read
    times: list[int] = []

    def counted(packet: bytes) -> packets.Seen | packets.Asked | None:
        times.append(int(trio.current_time()))
        return read(packet)

    async with running(alice):
        await beacon_of(wire, alice)
        monkeypatch.setattr(packets, "read", counted)
        for _ in range(1_000):
            wire.send("127.0.1.66", packets.question())
            wire.send("127.0.1.66", b"of another service")
        await until(lambda: not wire.on[alice.ip].statistics().current_buffer_used)
        assert max(times.count(second) for second in times) <= site.READ_AT_ONCE
        answers = [packet for ip, packet in wire.sent if ip == alice.ip]
        assert len(answers) < 20, "it is asked a thousand times and answers once a second"
