"""Two people with 200 ms and the loss of every twentieth packet between them, as over a bad mobile connection."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.surroundings.networks import Machine, PartedNet, Somebody
from tests.surroundings.slow_wire import wire
from tests.surroundings.story import tell
from tests.system.world import eventually


class BadNet(PartedNet):
    """Between a machine and the hub 50 ms each way, 2.5 of a hundred frames lost; between two machines twice."""

    def _join(self, number: int, machine: Machine) -> None:
        self._stack.enter_context(wire(self.hub, f"port{number}", machine, "eth0", 0.05, loss=0.025))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    if os.geteuid():
        pytest.skip("network namespaces are made by root")
    with ExitStack() as stack:
        yield stack


@pytest.mark.root
@pytest.mark.long
def test_everything_comes_about_where_packets_are_late_and_lost(stack: ExitStack, tmp_path: Path) -> None:
    """First through the relay, then, once there is a direct path, by that: a story, and files each way of it."""
    net = BadNet(tmp_path, stack, 2)
    alice, bob = (
        net.person(name, tmp_path / name, machine, stack, relays=[net.relay_url])
        for name, machine in zip(("alice", "bob"), net.others, strict=True)
    )
    tell(alice, bob, tmp_path / "back")
    assert alice.path_to(bob)["path"] == "relay" and alice.path_to(bob)["round_trip_ms"] >= 200
    _send_files(alice, bob, tmp_path)
    net.let_through()
    eventually(lambda: alice.path_to(bob)["path"] == bob.path_to(alice)["path"] == "direct", what="the direct path")
    _send_files(alice, bob, tmp_path)
    assert alice.path_to(bob)["path"] == "direct" and alice.path_to(bob)["round_trip_ms"] >= 200


def _send_files(alice: Somebody, bob: Somebody, folder: Path) -> None:
    for number in range(2):
        (folder / f"{number}.bin").write_bytes(os.urandom(1_000_000))
    files = [word for number in range(2) for word in ("--file", str(folder / f"{number}.bin"))]
    dispatch_id = alice.cli("send", bob.email, "Look", *files, "--json").json["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    found = bob.client.dispatch(dispatch_id)["files"]
    assert [(file["size"], file["ready"]) for file in found] == [(1_000_000, True)] * 2
