"""Machines that change their network, sleep, and lose their broker for a while: what waits goes on by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import more
from tests.surroundings.networks import Machine, PartedNet, Somebody
from tests.surroundings.story import somebody
from tests.surroundings.test_relayed import under_way
from tests.surroundings.test_suspended import stopped
from tests.system.world import Person, World, connect, eventually


class Reachable(NamedTuple):
    net: PartedNet
    alice: Somebody
    bob: Somebody
    stack: ExitStack


@pytest.fixture
def reachable(tmp_path: Path) -> Iterator[Reachable]:
    """Two whose machines reach each other, without a relay."""
    if os.geteuid():
        pytest.skip("network namespaces are made by root")
    with ExitStack() as stack:
        net = PartedNet(tmp_path, stack, 2)
        net.let_through()
        alice, bob = (
            net.person(name, tmp_path / name, machine, stack, relays=["none"])
            for name, machine in zip(("alice", "bob"), net.others, strict=True)
        )
        connect(alice, bob)
        yield Reachable(net, alice, bob, stack)


def move(machine: Machine, number: int, old: str, new: str) -> None:
    """Give a machine another address in place of the one it has."""
    machine.ip(f"addr del 11.77.{number}.{old}/24 dev eth0")
    machine.ip(f"addr add 11.77.{number}.{new}/24 dev eth0")
    machine.ip(f"route replace default via 11.77.{number}.1")


def online(one: Person, other: Person) -> bool:
    return any(row["peer"] == other.email and row["peer_online"] for row in one.client.contacts()["trust"])


def logged(person: Person, event: str) -> bool:
    return any(entry["event"] == event for entry in person.log())


@pytest.mark.root
@pytest.mark.parametrize("who", ["recipient", *more("sender")])
def test_an_address_that_changes_amid_files_takes_nothing_along(reachable: Reachable, tmp_path: Path, who: str) -> None:
    """Each goes on at its byte: what is here is never less than it was. Pure tests show that it is soon; here,
    that the kernel's word of a change comes from real interfaces, and that all parts work together."""
    net, alice, bob, _ = reachable
    net.slow_down(1, megabits=24)
    files = [tmp_path / f"{number}.bin" for number in range(4)]
    for file in files:
        file.write_bytes(os.urandom(5_000_000))
    sending = [word for file in files for word in ("--file", str(file))]
    dispatch_id = alice.cli("send", bob.email, "Look", *sending, "--json").json["dispatch_id"]
    eventually(lambda: under_way(bob) > 1_000_000, what="the first bytes")
    came = under_way(bob)
    number = 1 if who == "recipient" else 0
    move(net.others[number], number, "2", "77")
    assert came < 20_000_000, "and not the last"
    seen = came

    def grown() -> bool:
        nonlocal seen
        now = under_way(bob)
        assert now >= came, "a transfer began anew"
        seen = max(seen, now)
        return now >= 20_000_000

    eventually(grown, what="the rest")
    alice.state_of(dispatch_id, "pending")
    found = bob.client.dispatch(dispatch_id)["files"]
    assert [(file["size"], file["ready"]) for file in found] == [(5_000_000, True)] * 4
    assert logged(bob if who == "recipient" else alice, "machine.networks_changed")


@pytest.mark.long
@pytest.mark.root
def test_a_broker_that_comes_back_leads_contacts_together_that_have_moved(reachable: Reachable) -> None:
    """Both moved while it was gone, so neither knows where the other is."""
    net, alice, bob, _ = reachable
    net.broker_program.end(signal.SIGKILL)
    for person in (alice, bob):
        person.stop()
    for number, machine in enumerate(net.others):
        move(machine, number, "2", "77")
    for person in (alice, bob):
        person.launch("--port", "0", inside=person.inside)
        person.ready()
    dispatch_id = alice.client.send(bob.email, "Look")["dispatch_id"]
    for person in (alice, bob):
        eventually(lambda person=person: logged(person, "broker.trouble"), what="the broker missed")  # type: ignore[misc]
    assert not online(alice, bob)
    net.start_broker()
    alice.state_of(dispatch_id, "pending")


@pytest.mark.long
@pytest.mark.root
def test_contacts_meet_at_an_address_that_was_typed(reachable: Reachable) -> None:
    """Alice has moved while the broker is gone, and both start anew: nobody is told where she is but by her."""
    net, alice, bob, _ = reachable
    net.broker_program.end(signal.SIGKILL)
    for person in (alice, bob):
        person.stop()
    move(net.others[0], 0, "2", "77")
    move(net.others[1], 1, "2", "77")
    for person in (alice, bob):
        person.launch("--port", "0", inside=person.inside)
        person.ready()
    dispatch_id = alice.client.send(bob.email, "Look")["dispatch_id"]
    (listening,) = bob.client.whoami()["daemon"]["addresses"]
    assert alice.cli("contacts", "add-address", bob.email, listening, "--json").json["devices"]
    alice.state_of(dispatch_id, "pending")
    (row,) = alice.client.contacts()["trust"]
    assert row["addresses_typed"] == [listening] and row["peer_online"]
    assert "addresses that you added" in alice.cli("contacts")
    alice.cli("contacts", "remove-address", bob.email, listening)
    assert "addresses_typed" not in alice.client.contacts()["trust"][0]


def test_a_daemon_that_stood_still_greets_its_contacts(alice: Person, world: World, tmp_path: Path) -> None:
    """SIGSTOP stands for its sleep. Meanwhile Alice was started anew, so that its connection is one to nobody."""
    bob = somebody(world, "dozer", tmp_path / "bob")
    bob.start()
    connect(alice, bob)
    assert bob.program is not None
    os.kill(bob.program.pid, signal.SIGSTOP)
    eventually(lambda: bob.program is not None and stopped(bob.program.pid), what="a daemon that stands still")
    alice.stop()
    alice.start()
    dispatch_id = alice.client.send(bob.email, "Look")["dispatch_id"]
    os.kill(bob.program.pid, signal.SIGCONT)
    alice.state_of(dispatch_id, "pending")
    eventually(lambda: online(bob, alice) and online(alice, bob), what="both connected")
    bob.client.decline(dispatch_id)
