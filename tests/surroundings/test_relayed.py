"""Two people whose machines reach a broker and a relay and nothing of each other, as behind two home routers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.surroundings.networks import PartedNet, Somebody
from tests.surroundings.story import tell
from tests.system.world import connect, eventually


class Apart(NamedTuple):
    net: PartedNet
    alice: Somebody
    bob: Somebody


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    if os.geteuid():
        pytest.skip("network namespaces are made by root")
    with ExitStack() as stack:
        net = PartedNet(tmp_path, stack, 2)
        alice, bob = (
            net.person(name, tmp_path / name, machine, stack, relays=["broker", net.relay_url])
            for name, machine in zip(("alice", "bob"), net.others, strict=True)
        )
        eventually(lambda: alice.relays() == bob.relays() == {net.relay_url: True}, what="a place at the relay")
        yield Apart(net, alice, bob)


@pytest.mark.root
def test_everything_goes_through_the_relay_until_there_is_a_direct_path(apart: Apart, tmp_path: Path) -> None:
    net, alice, bob = apart
    tell(alice, bob, tmp_path / "back")
    for one, other in ((alice, bob), (bob, alice)):
        row = one.path_to(other)
        assert row["path"] == "relay" and row["peer_online"] and row["round_trip_ms"] >= 1 and row["path_since"]
    said = bob.cli("doctor", "--json", status=None).json["checks"]
    (reached,) = [check for check in said if check["name"] == "reachability"]
    (path,) = reached["paths"]
    assert (path["peer"], path["path"]) == (alice.email, "relay")
    assert path["round_trip_ms"] >= 1 and path["path_since"]
    assert reached["detail"].endswith(
        f"; 1 of 1 devices connected, 1 through a relay; relay {net.relay_url} is connected"
    )
    net.let_through()
    eventually(lambda: alice.path_to(bob)["path"] == "direct", what="the direct path")
    eventually(lambda: bob.path_to(alice)["path"] == "direct", what="the direct path")


@pytest.mark.root
@pytest.mark.long
def test_a_relay_that_dies_takes_nothing_along(apart: Apart, tmp_path: Path) -> None:
    """Files are on their way when it is killed; it comes back, and they arrive, each at the byte where it was."""
    net, alice, bob = apart
    connect(alice, bob)
    net.slow_down(1, megabits=40)
    files = [tmp_path / f"{number}.bin" for number in range(4)]
    for file in files:
        file.write_bytes(os.urandom(5_000_000))
    sending = [word for file in files for word in ("--file", str(file))]
    dispatch_id = alice.cli("send", bob.email, "Look", *sending, "--json").json["dispatch_id"]
    eventually(lambda: under_way(bob) > 1_000_000, what="the first bytes")
    net.relay.end(signal.SIGKILL)
    came = under_way(bob)
    assert came < 20_000_000, "and not the last"
    eventually(lambda: alice.path_to(bob)["path"] is None, what="the loss of the path")
    net.relay = net.start_relay()
    alice.state_of(dispatch_id, "pending")
    found = bob.client.dispatch(dispatch_id)["files"]
    assert [(file["size"], file["ready"]) for file in found] == [(5_000_000, True)] * 4


def under_way(person: Somebody) -> int:
    """Bytes of files that are here, whole or in part."""
    return sum(path.stat().st_size for path in person.state.blobs.rglob("*") if path.is_file())


@pytest.mark.root
@pytest.mark.long
def test_a_broker_that_is_gone_keeps_nobody_from_the_relay(apart: Apart) -> None:
    """Both start anew while it is gone: relay, token and addresses are remembered."""
    net, alice, bob = apart
    connect(alice, bob)
    net.broker_program.end(signal.SIGKILL)
    for person in (alice, bob):
        person.restart()
    dispatch_id = alice.client.send(bob.email, "Look")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    assert alice.path_to(bob)["path"] == "relay"
