"""Somebody behind a home router that maps ports: a real NAT in a network namespace, its NAT-PMP a fake's.

Alice's machine takes in no connections at all, so a direct path between the two can only lead through the mapped port.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.surroundings.networks import ROUTER, Machine, PartedNet, Somebody, machine_behind
from tests.system.world import clean_environment, connect, eventually

WAN = "11.77.1.2"
CLOSED = """\
table ip filter {
    chain input {
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        ct state established,related accept
    }
}
"""


class Home(NamedTuple):
    net: PartedNet
    router: Machine
    alice: Somebody
    bob: Somebody


def home(folder: Path, stack: ExitStack, router_that: str) -> Home:
    if os.geteuid() or not shutil.which("nft"):
        pytest.skip("network namespaces are made by root, and the router's rules by nft")
    net = PartedNet(folder, stack, 2)
    net.let_through()
    alices, router = net.others
    alices.nft(CLOSED)
    bobs = machine_behind(router, stack)
    command = [*router.enter, sys.executable, "-m", "tests.surroundings.router", ROUTER, router_that]
    program = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment(folder)))
    stack.callback(program.kill)
    assert program.stdout is not None and program.stdout.readline() == b"up\n"
    alice, bob = (
        net.person(name, folder / name, machine, stack, relays=["broker", net.relay_url])
        for name, machine in (("alice", alices), ("bob", bobs))
    )
    eventually(lambda: alice.relays() == bob.relays() == {net.relay_url: True}, what="a place at the relay")
    return Home(net, router, alice, bob)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def reachability(person: Somebody) -> str:
    checks = person.cli("doctor", "--json", status=None).json["checks"]
    (detail,) = [check["detail"] for check in checks if check["name"] == "reachability"]
    return str(detail)


@pytest.mark.long
@pytest.mark.root
def test_contacts_connect_through_the_mapped_port(tmp_path: Path, stack: ExitStack) -> None:
    _, router, alice, bob = home(tmp_path, stack, "maps")
    eventually(lambda: "is mapped to" in reachability(bob), what="a port that the relay has reached")
    assert f" is mapped to {WAN}:40001; " in reachability(bob)
    assert "is mapped to" not in reachability(alice)  # hers is a public address
    connect(alice, bob)
    eventually(lambda: alice.path_to(bob)["path"] == "direct", what="the path through the router")
    bob.stop()
    rules = subprocess.run([*router.enter, "nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    assert "dnat to" not in rules.stdout, "the mapping ends with the daemon"


@pytest.mark.root
@pytest.mark.long
def test_a_router_that_lies_is_announced_to_nobody(tmp_path: Path, stack: ExitStack) -> None:
    _, _, alice, bob = home(tmp_path, stack, "lies")
    connect(alice, bob)
    eventually(lambda: alice.path_to(bob)["path"] == "relay", what="the path through the relay")
    log = bob.state.path / "daemon.log"
    eventually(lambda: "port_mapping.none" in log.read_text(), what="the relay's word that it reached nobody")
    assert "is mapped to" not in reachability(bob)
