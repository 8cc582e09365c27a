"""Two people on one local network who find each other by themselves: no broker, no address from before, no relay."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from peer.mesh.lan import links, packets
from peer.mesh.lan.multicast import Multicast
from tests.conftest import HANG, more
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
async def test_every_machine_of_a_link_is_heard_beside_the_socket_of_loopback() -> None:
    """Seen to fail with sockets that are not bound to their interfaces: the kernel gave half to that of loopback."""
    if os.geteuid():
        pytest.skip("network namespaces are made by root")
    others = [f"10.9.0.{number}" for number in range(2, 42)]
    with ExitStack() as stack:
        here, there = Machine(stack), Machine(stack)
        here.ip(f"link add eth0 type veth peer name eth0 netns {there.pid}")
        for machine, addresses in ((here, ["10.9.0.1"]), (there, others)):
            for address in addresses:
                machine.ip(f"addr add {address}/24 dev eth0")
            machine.ip("link set eth0 up")
        with here.entered():
            airs = [Multicast(link) for link in links.here() if link.network.version == 4]
        assert len(airs) == 2
        with there.entered():
            senders = [stack.enter_context(_sender(address)) for address in others]
        heard: set[str] = set()

        async def hear(air: Multicast) -> None:
            while True:
                heard.add((await air.receive())[1])

        with trio.fail_after(HANG):
            async with trio.open_nursery() as nursery:
                for air in airs:
                    nursery.start_soon(hear, air)
                while heard != set(others):
                    for sender in senders:
                        sender.sendto(b"here", (packets.GROUP_IPV4, packets.PORT))
                    await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
        for air in airs:
            air.close()


def _sender(address: str) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    sender.bind((address, packets.PORT))
    return sender


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
