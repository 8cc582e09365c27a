"""Networks without IPv6, and with nothing else: signing in, being found, runs and files, with the settings of a new
installation. Each machine is a network namespace with a wire to the others.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import more
from tests.surroundings.networks import NO_SOCKETS_OF_IPV6, Net
from tests.surroundings.story import tell

KINDS = {
    "IPv6 only": (("fd00:d15::1", "fd00:d15::2", "fd00:d15::3"), True, ()),
    "a kernel without IPv6": (("192.0.2.1", "192.0.2.2", "192.0.2.3"), False, NO_SOCKETS_OF_IPV6),
    "IPv6 off": (("192.0.2.1", "192.0.2.2", "192.0.2.3"), False, ()),
}


@pytest.mark.root
@pytest.mark.parametrize("kind", ["IPv6 only", *more("a kernel without IPv6", "IPv6 off")])
def test_one_family_alone(tmp_path: Path, kind: str) -> None:
    """Seen to fail with IPv6 alone while only IPv4 was listened on: nobody could be reached."""
    if os.geteuid():
        pytest.skip("network namespaces are made by root")
    addresses, ipv6, around = KINDS[kind]
    with ExitStack() as stack:
        net = Net(tmp_path, stack, addresses, ipv6=ipv6, around=around)
        alice, bob = (
            net.person(name, tmp_path / name, machine, stack)
            for name, machine in zip(("alice", "bob"), net.others, strict=True)
        )
        family = "ip6" if ipv6 else "ip4"
        for person, address in ((alice, addresses[1]), (bob, addresses[2])):
            (listening,) = person.client.whoami()["daemon"]["addresses"]
            assert listening.startswith(f"/{family}/{address}/tcp/"), listening
        tell(alice, bob, tmp_path / "back")
        checks = {check["name"]: check for check in bob.cli("doctor", "--json", status=None).json["checks"]}
        alone = f"listening on 1 address, over {'IPv6' if ipv6 else 'IPv4'} only: "
        assert checks["reachability"]["detail"].startswith(alone), checks["reachability"]
        assert checks["reachability"]["detail"].endswith("; 1 of 1 devices connected")
        assert {name for name, check in checks.items() if not check["ok"]} <= {"sandbox", "gate"}, checks
