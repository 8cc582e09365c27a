"""Origins of relays, for people and as multiaddrs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multiaddr import Multiaddr

from peer.protocol.errors import Invalid
from peer.protocol.relays.addresses import from_multiaddr, relay_origin, to_multiaddr


@pytest.mark.parametrize(
    ("text", "origin", "address"),
    [
        ("https://Relay.Example", "https://relay.example", "/dns/relay.example/tcp/443/wss"),
        ("https://relay.example:443/", "https://relay.example", "/dns/relay.example/tcp/443/wss"),
        ("https://relay.example:8443", "https://relay.example:8443", "/dns/relay.example/tcp/8443/wss"),
        ("https://192.0.2.1", "https://192.0.2.1", "/ip4/192.0.2.1/tcp/443/wss"),
        ("https://[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443", "/ip6/2001:db8::1/tcp/8443/wss"),
        ("http://127.0.0.1:8900", "http://127.0.0.1:8900", "/ip4/127.0.0.1/tcp/8900/ws"),
        ("http://localhost", "http://localhost", "/dns/localhost/tcp/80/ws"),
        ("http://[::1]:8900", "http://[::1]:8900", "/ip6/::1/tcp/8900/ws"),
    ],
)
def test_one_form_there_and_back(text: str, origin: str, address: str) -> None:
    assert relay_origin(text) == origin == relay_origin(origin)
    assert to_multiaddr(origin) == address == str(Multiaddr(address))
    assert from_multiaddr(address) == origin


@pytest.mark.parametrize(
    "text",
    [
        *("", "relay.example", "wss://relay.example", "https://", "https://a@relay.example", "https://relay.example/x"),
        *("https://relay.example?a", "https://relay.example#a", "https://relay.example:0", "https://relay.example:x"),
        *("https://relay.example:70000", "https://re lay.example", "https://relay_.example", "https://1.2.3"),
        *(
            "http://relay.example",
            "http://192.168.1.2",
            "https://[fe80::1%25eth0]",
            "https://" + "a" * 300 + ".example",
        ),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        relay_origin(text)


@pytest.mark.parametrize(
    "address",
    [
        *("", "/", "/ip4/192.0.2.1/tcp/443", "/ip4/192.0.2.1/tcp/443/ws", "/dns/Relay.example/tcp/443/wss"),
        *("/dns/relay.example/tcp/443/wss/p2p/x", "/dns/relay.example/udp/443/wss", "/dns/relay.example/tcp/0443/wss"),
        *("/dns/192.0.2.1/tcp/443/wss", "/ip6/2001:db8:0::1/tcp/443/wss", "/dns/a@b/tcp/443/wss"),
    ],
)
def test_other_multiaddrs_are_no_relays(address: str) -> None:
    assert from_multiaddr(address) is None


@given(st.text(max_size=60))
def test_whatever_somebody_announces_is_judged_without_an_error(text: str) -> None:
    found = from_multiaddr(text)
    assert found is None or to_multiaddr(found) == text


def test_multiaddrs_that_were_read_are_forgotten_when_there_are_many() -> None:
    for kept, text in ((from_multiaddr, "/dns/{}.example/tcp/443/wss"), (to_multiaddr, "https://{}.example")):
        most = kept.cache_parameters()["maxsize"]
        assert most is not None
        for number in range(most + 10):
            assert kept(text.format(number)) is not None
        assert kept.cache_info().currsize == most
