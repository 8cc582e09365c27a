"""Two people at home, each behind a router that lets nothing in: real NATs in network namespaces, with a relay outside.

The routers' NATs are the kernel's. As it is, one keeps the port of a connection wherever that goes; with `random`, each
destination sees another one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.surroundings.networks import Machine, PartedNet, Somebody, machine_behind
from tests.surroundings.slow_wire import wire
from tests.surroundings.test_relayed import under_way
from tests.system.world import connect, eventually

ROUTER = """\
table ip nat {{
    chain postrouting {{ type nat hook postrouting priority 100; oifname "eth0" masquerade {how}; }}
}}
table ip filter {{
    counter came {{ }}
    counter dialled {{ }}
    chain input {{ type filter hook input priority 0; iifname "eth0" ct state new,invalid {refusal}; }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        iifname "eth0" counter name came
        iifname "lan" ip daddr 11.77.0.0/16 tcp flags syn counter name dialled
        ct state established,related accept
        iifname "lan" accept
    }}
}}
"""
CLOSED = """\
table ip6 filter {
    chain input {
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        ct state established,related accept
    }
}
"""
FILE_BYTES = 5_000_000


class DistantNet(PartedNet):
    """Machines whose packets take 20 ms to the hub."""

    def _join(self, number: int, machine: Machine) -> None:
        self._stack.enter_context(wire(self.hub, f"port{number}", machine, "eth0", 0.02))


class Homes(NamedTuple):
    net: PartedNet
    alice: Somebody
    bob: Somebody


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    if os.geteuid() or not shutil.which("nft"):
        pytest.skip("network namespaces are made by root, and the routers' rules by nft")
    with ExitStack() as stack:
        yield stack


def homes(net: PartedNet, stack: ExitStack, *, how: str = "", refusal: str = "drop") -> Homes:
    """`how`: the NAT's; `refusal`: what the routers do with connections from outside."""
    for router in net.others:
        router.nft(ROUTER.format(how=how, refusal=refusal))
    return at_the_relay(net, stack, [machine_behind(router, stack) for router in net.others])


def at_the_relay(net: PartedNet, stack: ExitStack, machines: list[Machine]) -> Homes:
    alice, bob = (
        net.person(name, net.folder / name, machine, stack, relays=["broker", net.relay_url], map_port="off")
        for name, machine in zip(("alice", "bob"), machines, strict=True)
    )
    eventually(lambda: alice.relays() == bob.relays() == {net.relay_url: True}, what="a place at the relay")
    return Homes(net, alice, bob)


def until_direct(alice: Somebody, bob: Somebody) -> None:
    for one, other in ((alice, bob), (bob, alice)):
        eventually(lambda one=one, other=other: one.path_to(other)["path"] == "direct", what="the direct path")  # type: ignore[misc]


def counted(router: Machine, name: str, unit: str = "bytes") -> int:
    """What a router's counter says."""
    command = [*router.enter, "nft", "list", "counter", "ip", "filter", name]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    (found,) = re.findall(rf"{unit} (\d+)", said.stdout)
    return int(found)


def numbers(net: PartedNet) -> str:
    """What the relay counts, said to its own machine alone."""
    url = f"https://127.0.0.1:{net.RELAY_PORT}/metrics"
    command = [*net.hub.enter, "curl", "--silent", "--insecure", "--noproxy", "*", url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.long
@pytest.mark.root
def test_both_get_through_their_nats(tmp_path: Path, stack: ExitStack) -> None:
    net = PartedNet(tmp_path, stack, 2)
    net.let_through()
    _, alice, bob = homes(net, stack)
    connect(alice, bob)
    until_direct(alice, bob)
    eventually(lambda: "dispatch_relay_pipes 0\n" in numbers(net), what="the end of the pipe")


@pytest.mark.root
@pytest.mark.long
def test_files_on_their_way_go_on_at_their_byte_over_the_path_through_both_nats(
    tmp_path: Path, stack: ExitStack
) -> None:
    net, alice, bob = homes(PartedNet(tmp_path, stack, 2), stack)
    connect(alice, bob)
    net.slow_down(1, megabits=8)
    files = [tmp_path / f"{number}.bin" for number in range(4)]
    for file in files:
        file.write_bytes(os.urandom(FILE_BYTES))
    sending = [word for file in files for word in ("--file", str(file))]
    dispatch_id = alice.cli("send", bob.email, "Look", *sending, "--json").json["dispatch_id"]
    eventually(lambda: under_way(bob) > 4_000_000, what="the first bytes")
    assert alice.path_to(bob)["path"] == "relay"
    net.let_through()
    for person in (alice, bob):
        person.machine.ip("addr add 10.9.0.9/32 dev lo")  # another network, for all that it knows
    until_direct(alice, bob)
    assert under_way(bob) < 4 * FILE_BYTES, "and not the last"
    net.slow_down(1, megabits=1000)
    alice.state_of(dispatch_id, "pending")
    assert [file["ready"] for file in bob.client.dispatch(dispatch_id)["files"]] == [True] * 4
    assert counted(net.others[1], "came") < 1.15 * 4 * FILE_BYTES, "no byte twice"


@pytest.mark.root
@pytest.mark.long
@pytest.mark.parametrize("refusal", ["drop", "accept", "reject with tcp reset"])
def test_both_dial_at_one_instant(tmp_path: Path, stack: ExitStack, refusal: str) -> None:
    """Seen to fail with the routers that refuse where packets take no time: a dial is refused before the other leaves.

    `accept`: the router's own kernel answers, as there is nothing behind the port.
    """
    net = DistantNet(tmp_path, stack, 2)
    net.let_through()
    _, alice, bob = homes(net, stack, refusal=refusal)
    connect(alice, bob)
    until_direct(alice, bob)


@pytest.mark.root
@pytest.mark.long
@pytest.mark.parametrize("how", ["random", "fully-random"])
def test_where_a_nat_gives_each_destination_another_port_the_relay_stays(
    tmp_path: Path, stack: ExitStack, how: str
) -> None:
    net = PartedNet(tmp_path, stack, 2)
    net.let_through()
    _, alice, bob = homes(net, stack, how=how)
    connect(alice, bob)
    eventually(lambda: all(counted(router, "dialled", "packets") for router in net.others), what="an attempt")
    dispatch_id = alice.client.send(bob.email, "Look")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    for one, other in ((alice, bob), (bob, alice)):
        assert one.path_to(other)["path"] == "relay"
        log = (one.state.path / "daemon.log").read_text()
        assert "punch" not in log and '"level": "warning"' not in log and '"level": "error"' not in log


@pytest.mark.root
@pytest.mark.long
def test_firewalls_of_ipv6_are_passed_without_asking_a_relay_for_addresses(tmp_path: Path, stack: ExitStack) -> None:
    net = PartedNet(tmp_path, stack, 2, ipv6=True)
    net.let_through()
    for machine in net.others:
        machine.nft(CLOSED)
    _, alice, bob = at_the_relay(net, stack, net.others)
    connect(alice, bob)
    until_direct(alice, bob)
