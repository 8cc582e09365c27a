"""Which of a contact's addresses are dialled, when, and how often: what it can have this machine connect to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import psutil
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from multiaddr import Multiaddr

from peer.mesh import dialing
from peer.mesh.dialable import Surroundings, surroundings
from peer.mesh.dialing import MAX_ADDRESSES, STAGGER, DialBudget, race, typed_address, usable
from peer.mesh.host import MeshHost, MeshLimits
from peer.protocol.errors import Invalid, Unavailable
from tests.mesh.harness import LOOPBACK, make_host

HERE = Surroundings(
    own=frozenset(map(ip_address, ("127.0.0.1", "::1", "192.168.7.20", "198.41.0.4", "fe80::1", "fd12::20"))),
    networks=(ip_network("192.168.7.0/24"), ip_network("198.41.0.0/24"), ip_network("fd12::/64")),
    loopback_alone=False,
)


@pytest.mark.parametrize("ip", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "192.168.7.1", "fd12::7", "198.41.0.9"])
def test_public_addresses_and_those_of_an_own_network_are_dialled(ip: str) -> None:
    assert HERE.may_dial(ip)


@pytest.mark.parametrize(
    "ip",
    [
        *("127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1"),
        *("0.0.0.0", "::", "::ffff:0.0.0.0", "0.1.2.3", "255.255.255.255", "240.0.0.1", "224.0.0.1", "ff02::1"),
        *("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::2", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
        *("192.168.7.20", "::ffff:192.168.7.20", "198.41.0.4", "fd12::20"),
        *("10.0.0.1", "192.168.8.1", "172.17.0.1", "100.64.0.1", "fd13::1", "fc00::1", "fec0::1", "::ffff:10.0.0.1"),
        *("3fff::1", "4000::1", "300::7"),  # documents, and what nobody was given
        *("", "localhost", "0177.0.0.1", "2130706433", "127.1"),
    ],
)
def test_no_other_addresses_are_dialled(ip: str) -> None:
    """Loopback, nowhere, link-local, this machine's own, other private networks, in each spelling of IPv6, and what is
    no address. Seen to fail (most) with nothing but a look at `is_loopback`."""
    assert not HERE.may_dial(ip)


@pytest.mark.parametrize("ip", ["169.254.169.254", "fe80::2", "::ffff:169.254.0.1"])
def test_link_local_addresses_are_not_dialled_on_such_a_network_either(ip: str) -> None:
    """Seen to fail without the look at `is_link_local`."""
    networks = (ip_network("169.254.0.0/16"), ip_network("fe80::/64"))
    assert not Surroundings(own=frozenset(), networks=networks, loopback_alone=False).may_dial(ip)


def test_a_node_that_serves_this_machine_alone_dials_it() -> None:
    assert surroundings([Multiaddr(LOOPBACK), Multiaddr("/ip6/::1/tcp/0")]).may_dial("127.0.0.1")
    for listen in ([LOOPBACK, "/ip4/0.0.0.0/tcp/0"], ["/ip4/192.0.2.9/tcp/1"], ["/ip6/::/tcp/0"]):
        assert not surroundings(map(Multiaddr, listen)).may_dial("127.0.0.1")


def test_an_overlay_network_is_one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def interfaces() -> dict[str, list[psutil._ntuples.snicaddr]]:
        address = psutil._ntuples.snicaddr(socket.AF_INET, "100.101.102.103", "255.255.255.255", None, None)
        return {"overlay0": [address]}

    monkeypatch.setattr(psutil, "net_if_addrs", interfaces)
    found = surroundings([Multiaddr("/ip4/0.0.0.0/tcp/0")])
    assert found.may_dial("100.64.0.1") and not found.may_dial("100.101.102.103") and not found.may_dial("10.0.0.1")


PEER, OTHER = (make_host(seed=bytes([number]) * 32).peer_id for number in (1, 2))  # fixed: they are in names of tests


@pytest.mark.parametrize(
    "address",
    [
        *("/dns/example.org/tcp/1", "/dns4/localhost/tcp/1", "/dnsaddr/example.org", "/ip4/8.8.8.8/udp/1/quic-v1"),
        *("/ip4/8.8.8.8", "/ip6zone/eth0/ip6/fe80::1/tcp/1", "/ip4/8.8.8.8/tcp/1/ip4/127.0.0.1/tcp/2", "/unix/tmp/x"),
        *(f"/ip4/8.8.8.8/tcp/1/p2p/{OTHER}", f"/ip4/8.8.8.8/tcp/1/p2p/{OTHER}/p2p-circuit/p2p/{PEER}", "", "nonsense"),
    ],
)
def test_only_plain_tcp_addresses_of_the_peer_itself_are_used(address: str) -> None:
    """Names of hosts are not, since they lead to loopback when asked again. Seen to fail with names among them."""
    good = "/ip4/8.8.8.8/tcp/1"
    assert [str(each) for each in usable([address, good], PEER, HERE.may_dial)] == [good]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/ip4/127.0.0.1/tcp/4001", ("/ip4/127.0.0.1/tcp/4001", None)),
        (f" /ip4/10.0.0.7/tcp/4001/p2p/{PEER}\n", ("/ip4/10.0.0.7/tcp/4001", PEER)),
        ("/ip6/FD00::0:7/tcp/1", ("/ip6/fd00::7/tcp/1", None)),
    ],
)
def test_an_address_of_any_network_may_be_typed(text: str, meant: tuple[str, str | None]) -> None:
    assert typed_address(text) == meant
    assert [str(each) for each in usable([meant[0]], PEER, lambda _ip: True)] == [meant[0]], "and is dialled"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(("/dns4/bob.example.org/tcp/4001", "a name could"), ("/dns/example.org/tcp/443/wss", "a name could")),
        *((text, "not a multiaddr") for text in ("192.0.2.7:4001", "bob.example.org", "/ip4/300.0.0.1/tcp/1", "/ip4")),
        *(("", "TCP"), ("/ip4/192.0.2.7/udp/4001/quic-v1", "TCP"), ("/ip4/192.0.2.7", "TCP"), ("/unix/tmp/x", "TCP")),
        *((f"/ip4/192.0.2.7/tcp/1/p2p/{OTHER}/p2p-circuit", "TCP"), ("/ip4/192.0.2.7/tcp/443/tls/ws", "TCP")),
        *(("/ip4/192.0.2.7/tcp/0", "nobody"), ("/ip4/0.0.0.0/tcp/1", "nobody"), ("/ip6/ff02::1/tcp/1", "nobody")),
        ("/ip6/fe80::1/tcp/1", "interface"),
    ],
)
def test_what_cannot_be_dialled_is_not_taken(text: str, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        typed_address(text)


@given(
    st.one_of(st.text(max_size=60), st.from_regex(r"/(ip4|ip6|tcp|p2p|dns)/[0-9a-f.:]{0,12}/tcp/[0-9]{0,6}(/p2p/\w*)?"))
)
def test_whatever_is_typed_is_taken_or_refused(text: str) -> None:
    try:
        plain, _ = typed_address(text)
    except Invalid:
        return
    assert typed_address(plain) == (plain, None)


async def test_an_address_that_was_typed_is_dialled_though_it_is_this_machines_own() -> None:
    """It was typed. Seen to fail with the rule for what contacts announce."""
    ben = make_host()
    typed: dict[str, list[str]] = {}
    everywhere = MeshHost(
        os.urandom(32),
        listen=["/ip4/0.0.0.0/tcp/0"],
        admits=lambda _: True,
        typed=lambda peer: typed.get(peer, []),
    )
    async with everywhere.running(), ben.running():
        announced = [address.partition("/p2p/")[0] for address in ben.addresses()]
        with pytest.raises(Unavailable):
            await everywhere.connect(ben.peer_id, announced)
        typed[ben.peer_id] = announced
        await everywhere.connect(ben.peer_id, [])
        assert everywhere.connected(ben.peer_id)


async def test_what_was_typed_comes_first_and_the_number_of_dials_stays_the_same() -> None:
    host = MeshHost(os.urandom(32), listen=[LOOPBACK], admits=lambda _: True, typed=lambda _: ["/ip4/10.9.9.9/tcp/9"])
    found = host.ways._usable([f"/ip4/8.8.8.8/tcp/{port}" for port in range(1, 99)], PEER)
    assert str(found[0]) == "/ip4/10.9.9.9/tcp/9" and len(found) == MAX_ADDRESSES


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """A service of this machine, on every address of it."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        listening.setblocking(False)
        yield listening


async def test_a_contact_cannot_have_its_victims_own_services_dialled(trap: socket.socket) -> None:
    """Seen to fail without `may_dial`: a connection for each address."""
    port = trap.getsockname()[1]
    own = [str(address) for address in surroundings([]).own]
    ips = {*own, "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"}
    announced = [f"/ip{6 if ':' in ip else 4}/{ip}/tcp/{port}" for ip in ips]
    announced += [f"/dns4/localhost/tcp/{port}", f"/dns/{socket.gethostname()}/tcp/{port}"]
    victim = MeshHost(os.urandom(32), listen=["/ip4/0.0.0.0/tcp/0"], admits=lambda _: True)
    async with victim.running():
        for address in announced:
            with pytest.raises(Unavailable) as refused:
                await victim.connect(PEER, [address])
            assert "`lan`" in refused.value.fix
    with pytest.raises(BlockingIOError):
        trap.accept()


async def test_when_an_address_is_dialled_says_nothing_of_the_others(autojump_clock: trio.testing.MockClock) -> None:
    """One is refused at once, one later, one never answers. Seen to fail where a failure began the next dial."""
    addresses = [Multiaddr(f"/ip4/8.8.8.8/tcp/{port}") for port in range(1, 7)]
    answers = dict(zip(addresses, (0.0, 0.07, 1e9, 0.149, 0.3, 0.0), strict=True))
    began: list[float] = []
    start = trio.current_time()

    async def dial(address: Multiaddr) -> None:
        began.append(trio.current_time() - start)
        await trio.sleep(answers[address])
        raise OSError("refused")

    with trio.move_on_after(60):
        await race(dial, addresses)
    assert began == pytest.approx([number * STAGGER for number in range(6)])


def test_addresses_that_were_parsed_are_forgotten_when_there_are_many() -> None:
    most = dialing._over_tcp.cache_parameters()["maxsize"]
    assert most is not None
    peer_id = make_host().peer_id
    found = usable((f"/ip4/8.8.{n >> 8}.{n & 255}/tcp/1" for n in range(most + 10)), peer_id, lambda _ip: True)
    assert len(found) == MAX_ADDRESSES
    assert dialing._over_tcp.cache_info().currsize == most


def test_dials_of_a_party_are_counted_within_a_minute() -> None:
    budget = DialBudget(most=3)
    assert [budget.take("ana", at) for at in (0.0, 1.0, 2.0, 3.0, 59.9)] == [True, True, True, False, False]
    assert budget.take("ben", 59.9)
    assert [budget.take("ana", at) for at in (60.0, 60.5, 61.0, 62.0, 119.0)] == [True, False, True, True, False]
    assert budget.take("cleo", 1000.0) and list(budget._dials) == ["cleo"]  # whoever is not dialled is forgotten


async def test_all_devices_of_a_contact_have_one_number_of_dials() -> None:
    """Each device announces ten ports of this machine. Seen to fail with a count for each device."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        listening.setblocking(False)
        address = f"/ip4/127.0.0.1/tcp/{listening.getsockname()[1]}"
        limits = MeshLimits(dials_per_minute=5, dial=0.2)
        caller = MeshHost(
            os.urandom(32), listen=[LOOPBACK], admits=lambda _: True, limits=limits, party=lambda _: "mallory@x.example"
        )
        async with caller.running():
            for _ in range(10):
                with pytest.raises(Unavailable):
                    await caller.connect(make_host().peer_id, [address])
        dialled = 0
        while True:
            try:
                listening.accept()[0].close()
            except BlockingIOError:
                break
            dialled += 1
        assert dialled == 5
