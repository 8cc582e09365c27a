"""Which addresses are dialled for a run."""

from __future__ import annotations

import ipaddress

import pytest

from sandbox.network.dialing import may_dial

OWN = frozenset({ipaddress.ip_address("93.184.216.1"), ipaddress.ip_address("2606:2800:220::1")})


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:2800:220:1::34", "2001:4860:4860::8888"])
def test_public_ones_are(address: str) -> None:
    assert may_dial(address, OWN)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "2001:db8::1"),
        # What stands for another address, also for a public one: which one a network makes of it is its own business.
        *("::ffff:10.0.0.1", "::ffff:93.184.216.34", "64:ff9b::a00:1", "64:ff9b::5db8:d822", "64:ff9b:1::a00:1"),
        *("2002:a00:1::1", "2002:5db8:d822::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::93.184.216.34"),
        *("2001:470::5efe:10.0.0.1", "2001:470::200:5efe:10.0.0.1"),  # ISATAP
        *("::ffff:0:10.0.0.1", "1::1", "4000::1", "3fff::1", "100::1"),  # no global unicast, or for documents
        *("93.184.216.1", "2606:2800:220::1"),  # this machine's own
        *("", "example.org", "93.184.216", "0x7f000001", "2130706433"),
    ],
)
def test_others_are_not(address: str) -> None:
    assert not may_dial(address, OWN)
