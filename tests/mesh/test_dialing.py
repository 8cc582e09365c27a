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
from multiaddr import Multiaddr

from peer.mesh.dialable import Surroundings, surroundings
from peer.mesh.dialing import STAGGER, DialBudget, race, usable
from peer.mesh.host import MeshHost, MeshLimits
from peer.protocol.errors import Unavailable
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
            assert "--listen" in refused.value.fix
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
