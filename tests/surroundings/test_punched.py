"""Two people at home, each behind a router that lets nothing in: real NATs in network namespaces, with a relay outside.

The routers' NATs are the kernel's. As it is, one keeps the port of a connection wherever that goes; with `random`, each
destination sees another one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.surroundings.networks import PartedNet, Somebody, machine_behind
from tests.surroundings.test_relayed import under_way
from tests.system.world import connect, eventually

ROUTER = """\
table ip nat {{
    chain postrouting {{ type nat hook postrouting priority 100; oifname "eth0" masquerade {how}; }}
}}
table ip filter {{
    chain input {{ type filter hook input priority 0; policy accept; iifname "eth0" ct state new {refusal}; }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "lan" accept
    }}
}}
"""


class Homes(NamedTuple):
    net: PartedNet
    alice: Somebody
    bob: Somebody


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def homes(folder: Path, stack: ExitStack, *, how: str = "", refusal: str = "drop") -> Homes:
    """`how`: the NAT's; `refusal`: what the routers do with connections from outside."""
    if os.geteuid() or not shutil.which("nft"):
        pytest.skip("network namespaces are made by root, and the routers' rules by nft")
    net = PartedNet(folder, stack, 2)
    for router in net.others:
        router.nft(ROUTER.format(how=how, refusal=refusal))
    machines = [machine_behind(router, stack) for router in net.others]
    alice, bob = (
        net.person(name, folder / name, machine, stack, relays=["broker", net.relay_url], map_port="off")
        for name, machine in zip(("alice", "bob"), machines, strict=True)
    )
    eventually(lambda: alice.relays() == bob.relays() == {net.relay_url: True}, what="a place at the relay")
    return Homes(net, alice, bob)


@pytest.mark.root
def test_both_get_through_their_routers(tmp_path: Path, stack: ExitStack) -> None:
    net, alice, bob = homes(tmp_path, stack)
    connect(alice, bob)
    eventually(lambda: alice.path_to(bob)["path"] == "relay", what="the relay")
    net.let_through()
    eventually(lambda: alice.path_to(bob)["path"] == "direct", what="the direct path")
    eventually(lambda: bob.path_to(alice)["path"] == "direct", what="the direct path")
