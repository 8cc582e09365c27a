"""Two people on one local network who find each other by themselves: no broker, no address from before, no relay."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from peer.mesh.lan import packets
from tests.conftest import more
from tests.surroundings.networks import Machine, Net, PartedNet
from tests.system.world import connect, eventually

KINDS = {
    "IPv4": (("192.0.2.1", "192.0.2.2", "192.0.2.3"), ("192.0.2.12", "192.0.2.13"), False),
    "IPv6": (("fd00:d15::1", "fd00:d15::2", "fd00:d15::3"), ("fd00:d15::12", "fd00:d15::13"), True),
}


def watches(machine: Machine) -> bool:
    """Whether there is a socket with the port of mDNS."""
    command = [*machine.enter, "cat", "/proc/net/udp", "/proc/net/udp6"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
    return f":{packets.PORT:04X} " in found


@pytest.mark.root
@pytest.mark.parametrize("kind", ["IPv4", *more("IPv6")])
def test_two_contacts_on_one_network_need_nobody_else(tmp_path: Path, kind: str) -> None:
    """Seen to fail with `lan` off: nobody is reached where everybody has another address than before."""
    if os.geteuid():
        pytest.skip("network namespaces are made by root")
    addresses, later, ipv6 = KINDS[kind]
    with ExitStack() as stack:
        net = Net(tmp_path, stack, addresses, ipv6=ipv6)
        alice, bob = (
            net.person(name, tmp_path / name, machine, stack, relays=["none"])
            for name, machine in zip(("alice", "bob"), net.others, strict=True)
        )
        connect(alice, bob)
        net.broker_program.end(signal.SIGKILL)
        for person, machine, old, new in zip((alice, bob), net.others, addresses[1:], later, strict=True):
            person.stop()
            bits = f"64 dev eth0 {'nodad' if ipv6 else ''}" if ipv6 else "24 dev eth0"
            machine.ip(f"addr del {old}/{bits.removesuffix(' nodad')}")
            machine.ip(f"addr add {new}/{bits}")
        for person in (alice, bob):
            person.launch("--port", "0", inside=person.inside)
            person.ready()
        dispatch_id = alice.client.send(bob.email, "Look")["dispatch_id"]
        alice.state_of(dispatch_id, "pending")
        assert alice.path_to(bob)["path"] == bob.path_to(alice)["path"] == "direct"
        machine = net.others[1]
        assert watches(machine)
        bob.cli("config", "set", "lan", "off")
        eventually(lambda: not watches(machine), what="the end of all sockets of mDNS")
        assert alice.path_to(bob)["path"] == "direct", "what is connected stays"
        bob.cli("config", "set", "lan", "on")
        eventually(lambda: watches(machine), what="the sockets of mDNS")


@pytest.mark.root
def test_two_people_who_share_a_machine_need_no_network(tmp_path: Path) -> None:
    """With the `listen` that they have by default: neither dials an address of its own machine that is announced."""
    if os.geteuid():
        pytest.skip("network namespaces are made by root")
    with ExitStack() as stack:
        net = Net(tmp_path, stack, ("192.0.2.1", "192.0.2.2"), ipv6=False)
        (machine,) = net.others
        alice, bob = (net.person(name, tmp_path / name, machine, stack, relays=["none"]) for name in ("alice", "bob"))
        connect(alice, bob)
        first = alice.client.send(bob.email, "Look")["dispatch_id"]
        alice.state_of(first, "pending")
        for person in (alice, bob):
            person.stop()
        machine.ip("link del eth0")
        for person in (alice, bob):
            person.start()
        second = alice.client.send(bob.email, "Look again")["dispatch_id"]
        alice.state_of(second, "pending")
        assert alice.path_to(bob)["path"] == bob.path_to(alice)["path"] == "direct"


@pytest.mark.root
@pytest.mark.long
def test_a_relay_is_left_on_a_common_network(tmp_path: Path) -> None:
    """Two who are connected through a relay come to one network; the broker, which could tell them, is gone."""
    if os.geteuid():
        pytest.skip("network namespaces are made by root")
    with ExitStack() as stack:
        net = PartedNet(tmp_path, stack, 2)
        alice, bob = (
            net.person(name, tmp_path / name, machine, stack, relays=["broker", net.relay_url])
            for name, machine in zip(("alice", "bob"), net.others, strict=True)
        )
        connect(alice, bob)
        eventually(
            lambda: alice.path_to(bob)["path"] == bob.path_to(alice)["path"] == "relay", what="the path by the relay"
        )
        net.broker_program.end(signal.SIGKILL)
        net.join_others()
        eventually(lambda: alice.path_to(bob)["path"] == bob.path_to(alice)["path"] == "direct", what="the direct path")
        dispatch_id = alice.client.send(bob.email, "Look")["dispatch_id"]
        alice.state_of(dispatch_id, "pending")
