"""Links and sightings: where this machine announces itself, whose beacons it knows, and how little a flood costs."""

from __future__ import annotations

import ipaddress
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.mesh.lan import links, sightings
from peer.mesh.lan.links import MAX_LINKS, Link
from peer.mesh.lan.packets import Seen
from peer.mesh.lan.sightings import Sightings, Way
from peer.protocol import lan, names

OWN, ALICE, BOB = (names.peer_id_text(names.peer_id_of(bytes([number]) * 32)) for number in (1, 2, 3))
KEYS = {ALICE: bytes([4]) * 32, BOB: bytes([5]) * 32}
LINK = Link(2, "192.168.1.2", ipaddress.ip_network("192.168.1.0/24"))
WIFI = Link(3, "10.0.0.2", ipaddress.ip_network("10.0.0.0/24"))


def knowing() -> Sightings:
    found = Sightings(OWN)
    found.set_contacts(KEYS)
    return found


def beacon(device: str, ip: str, *, port: int = 4000, nonce: bytes | None = None, key: bytes | None = None) -> Seen:
    nonce = nonce or os.urandom(16)
    ids = names.peer_id_bytes(device), names.peer_id_bytes(OWN)
    pair = lan.Pair(key or KEYS[device], *ids, nonce, lan.place(ip, port))
    return Seen(port, nonce, frozenset(lan.padded([pair.mark])))


def test_a_contacts_beacon_is_recognised_and_where_it_is() -> None:
    seen, here = knowing(), beacon(ALICE, "192.168.1.7")
    assert seen.see(LINK, "192.168.1.7", here, 0.0) == ALICE
    assert seen.ways(ALICE, 0.0) == [Way(LINK, "192.168.1.7", 4000, here.nonce)]
    assert seen.at("192.168.1.7") and not seen.at("192.168.1.8") and seen.ways(BOB, 0.0) == []


def test_a_beacon_of_nobody_or_from_elsewhere_is_nobodys() -> None:
    seen, here = knowing(), beacon(ALICE, "192.168.1.7")
    assert seen.see(LINK, "192.168.1.8", here, 0.0) is None
    assert seen.see(LINK, "192.168.1.7", Seen(4001, here.nonce, here.marks), 0.0) is None
    assert seen.see(LINK, "192.168.1.7", beacon(ALICE, "192.168.1.7", key=bytes(32)), 0.0) is None
    assert seen.ways(ALICE, 0.0) == []


def test_who_is_no_contact_any_more_is_not_recognised_nor_dialled() -> None:
    seen, here = knowing(), beacon(ALICE, "192.168.1.7")
    seen.see(LINK, "192.168.1.7", here, 0.0)
    (way,) = seen.ways(ALICE, 0.0)
    seen.set_contacts({BOB: KEYS[BOB]})
    assert seen.ways(ALICE, 0.0) == [] and seen.pair(ALICE, way) is None
    assert seen.see(LINK, "192.168.1.7", here, 0.0) is None
    seen.set_contacts(KEYS)
    assert seen.see(LINK, "192.168.1.7", here, 0.0) == ALICE, "a verdict from before does not stay"


def test_a_beacon_counts_for_a_time_however_often_it_is_repeated() -> None:
    seen, here = knowing(), beacon(ALICE, "192.168.1.7")
    for now in (0.0, sightings.LIFE / 2, sightings.LIFE - 1):
        seen.see(LINK, "192.168.1.7", here, now)
    assert seen.ways(ALICE, sightings.LIFE - 1) and not seen.ways(ALICE, sightings.LIFE)


def test_a_device_is_remembered_at_few_places_the_newest_first() -> None:
    seen = knowing()
    for number in range(1, 20):
        ip = f"192.168.1.{number + 10}"
        assert seen.see(LINK, ip, beacon(ALICE, ip), float(number)) == ALICE
    assert [way.ip for way in seen.ways(ALICE, 20.0)] == [f"192.168.1.{number}" for number in (29, 28, 27, 26)]
    again = beacon(ALICE, "192.168.1.27")
    seen.see(LINK, "192.168.1.27", again, 21.0)
    assert [way.nonce for way in seen.ways(ALICE, 21.0)].count(again.nonce) == 1
    assert len(seen.ways(ALICE, 21.0)) == sightings.PLACES


def test_what_was_seen_on_a_link_goes_with_it() -> None:
    seen = knowing()
    seen.see(LINK, "192.168.1.7", beacon(ALICE, "192.168.1.7"), 0.0)
    seen.see(WIFI, "10.0.0.7", beacon(ALICE, "10.0.0.7"), 0.0)
    seen.leave(LINK)
    assert [way.ip for way in seen.ways(ALICE, 0.0)] == ["10.0.0.7"]


def test_beacons_of_strangers_are_compared_in_bounds_and_a_contact_elsewhere_is_still_seen() -> None:
    seen, compared = knowing(), []
    recognised = seen._recognised

    def counted(way: Way, marks: frozenset[bytes]) -> str | None:
        compared.append(way)
        return recognised(way, marks)

    seen._recognised = counted  # type: ignore[method-assign]
    for number in range(5_000):
        assert seen.see(LINK, "192.168.1.66", Seen(1 + number, os.urandom(16), frozenset([bytes(6)])), 1.0) is None
    assert len(compared) == sightings.COMPARED_OF_ONE
    assert seen.see(LINK, "192.168.1.7", beacon(ALICE, "192.168.1.7"), 1.0) == ALICE
    for number in range(5_000):
        seen.see(LINK, f"192.168.1.{number % 250}", Seen(1 + number, os.urandom(16), frozenset([bytes(6)])), 2.0)
    assert len(compared) == sightings.COMPARED
    assert seen.see(LINK, "192.168.1.7", beacon(ALICE, "192.168.1.7"), 12.5) == ALICE, "later there is room again"


def test_on_loopback_everybody_has_one_address_and_that_counts_apart() -> None:
    """Seen to fail with the bound of one address, and with one count for all links."""
    here, seen = Link(1, "127.0.0.1", ipaddress.ip_network("127.0.0.1/32")), knowing()
    for number in range(sightings.COMPARED - 1):
        seen.see(here, "127.0.0.1", Seen(1 + number, os.urandom(16), frozenset([bytes(6)])), 1.0)
    assert seen.see(here, "127.0.0.1", beacon(ALICE, "127.0.0.1"), 1.0) == ALICE
    assert seen.see(here, "127.0.0.1", beacon(ALICE, "127.0.0.1"), 1.0) is None
    assert seen.see(LINK, "192.168.1.7", beacon(ALICE, "192.168.1.7"), 1.0) == ALICE


def test_few_verdicts_are_remembered_and_a_known_one_costs_nothing() -> None:
    seen, here = knowing(), beacon(ALICE, "192.168.1.7")
    for number in range(20_000):
        seen.see(LINK, f"192.168.1.{number % 250}", Seen(9, os.urandom(16), frozenset([bytes(6)])), number / 10)
    assert len(seen._judged) == sightings.JUDGED
    assert seen.see(LINK, "192.168.1.7", here, 9_000.0) == ALICE
    compared = len(seen._compared)
    for _ in range(100):
        assert seen.see(LINK, "192.168.1.7", here, 9_000.0) == ALICE
    assert len(seen._compared) == compared


# --- links

UP = ("up", "broadcast", "running", "multicast")


def test_each_interface_has_a_link_of_either_family() -> None:
    found = links.links(
        {"lo": 1, "eth0": 2, "wlan0": 3},
        {
            "lo": [("127.0.0.1", "255.0.0.0"), ("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")],
            "eth0": [
                ("192.168.1.2", "255.255.255.0"),
                ("192.168.1.3", "255.255.255.0"),
                ("2a02:8100::5", "ffff:ffff:ffff:ffff::"),
                ("fd00::5", "ffff:ffff:ffff:ffff::"),
                ("fe80::5%eth0", "ffff:ffff:ffff:ffff::"),
                ("02:fc:00:00:00:01", None),
            ],
            "wlan0": [("10.0.0.2", "255.255.0.0")],
        },
        {"lo": ("up", "loopback", "running", "multicast"), "eth0": UP, "wlan0": UP},
    )
    assert found == (
        Link(1, "127.0.0.1", ipaddress.ip_network("127.0.0.1/32")),
        LINK,
        Link(2, "fe80::5", ipaddress.ip_network("fe80::/10")),
        Link(3, "10.0.0.2", ipaddress.ip_network("10.0.0.0/16")),
    )


@pytest.mark.parametrize(
    ("address", "flags"),
    [
        (("11.77.0.2", "255.255.255.0"), UP),
        (("192.168.1.2", "255.255.255.255"), UP),
        (("192.168.1.2", None), UP),
        (("192.168.1.2", "255.255.255.0"), ("broadcast", "multicast")),
        (("192.168.1.2", "255.255.255.0"), ("up", "broadcast")),
        (("10.8.0.2", "255.255.255.0"), ("up", "pointopoint", "multicast")),
        (("127.0.0.1", "255.0.0.0"), UP),
        (("127.0.0.1", "255.0.0.0"), ("loopback", "multicast")),
        (("127.0.0.2", "255.0.0.0"), ("up", "loopback")),
        (("10.0.0.1", "255.255.255.0"), ("up", "loopback", "multicast")),
    ],
)
def test_where_there_is_no_local_network_there_is_no_link(
    address: tuple[str, str | None], flags: tuple[str, ...]
) -> None:
    """The internet's addresses, single ones, what is down, without multicast, a tunnel, what is no loopback."""
    assert links.links({"x": 1}, {"x": [address]}, {"x": flags}) == ()
    assert links.links({"x": 1}, {}, {}) == ()


def test_a_machine_with_very_many_interfaces_has_few_links() -> None:
    every = range(1, 500)
    found = links.links(
        {f"veth{number}": number for number in every},
        {f"veth{number}": [(f"10.{number // 250}.{number % 250}.1", "255.255.255.0")] for number in every},
        {f"veth{number}": UP for number in every},
    )
    assert len(found) == MAX_LINKS


@given(st.ip_addresses().map(str))
def test_nothing_but_another_machine_on_that_network_is_dialled(ip: str) -> None:
    found = ipaddress.ip_address(ip)
    assert LINK.holds(ip) == (found in LINK.network and ip != LINK.address)


def test_this_machine_loopback_the_internet_and_nonsense_are_not_held() -> None:
    odd = Link(2, "1.2.3.4", ipaddress.ip_network("1.2.3.0/24"))
    assert not odd.holds("1.2.3.5"), "an address of the internet"
    for ip in ("192.168.1.2", "127.0.0.1", "::1", "192.168.2.1", "fe80::1", "", "x", "::ffff:192.168.1.7"):
        assert not LINK.holds(ip)
    local = Link(2, "fe80::5", ipaddress.ip_network("fe80::/10"))
    assert local.holds("fe80::6") and not local.holds("fe80::5") and not local.holds("fd00::6")


def test_on_loopback_everybody_has_the_same_address() -> None:
    (loopback,) = [link for link in links.here() if link.is_loopback]
    assert loopback.holds("127.0.0.1")
    for ip in ("127.0.0.2", "::1", "192.168.1.2", "0.0.0.0"):
        assert not loopback.holds(ip)
