"""Which gateway this machine has, from what the kernel writes."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.mesh.port_mapping.gateway import default_gateway

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
LAN = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
HOME = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
WIFI = "wlan0\t00000000\tFE02A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
TUNNEL = "tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n"
DOWN = "eth1\t00000000\t0101A8C0\t0002\t0\t0\t1\t00000000\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("routes", "gateway"),
    [
        (LAN + HOME, "192.168.1.1"),
        (WIFI + HOME, "192.168.1.1"),
        (WIFI, "192.168.2.254"),
        (TUNNEL + HOME, None),
        (DOWN + WIFI, "192.168.2.254"),
        (LAN, None),
        ("nonsense\n" + HOME, "192.168.1.1"),
        ("", None),
    ],
)
def test_the_gateway_of_the_route_that_counts(routes: str, gateway: str | None) -> None:
    assert default_gateway(HEAD + routes) == (None if gateway is None else IPv4Address(gateway))


@given(st.text(max_size=300), st.lists(st.text("0123456789ABCDEF-", max_size=9), min_size=8, max_size=8))
def test_garbage_is_no_route(text: str, words: list[str]) -> None:
    for routes in (text, HEAD + "\t".join(words)):
        assert default_gateway(routes) is None or isinstance(default_gateway(routes), IPv4Address)
