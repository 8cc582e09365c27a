"""Whose request it is behind one proxy or several, whatever clients put into X-Forwarded-For."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rendezvous.proxies import client_address, proxy_networks

TRUSTED = proxy_networks(["10.0.0.0/8,192.0.2.1", "2001:db8:ff::/48"])
PROXIES = st.sampled_from(["10.0.0.1", "10.200.3.4", "192.0.2.1", "2001:db8:ff::1", "::ffff:10.0.0.9"])
STRANGERS = st.sampled_from(["198.51.100.7", "203.0.113.9", "2001:db8:1::7"])
FORGED = st.lists(
    st.one_of(PROXIES, STRANGERS, st.sampled_from(["", "unknown", "_hidden", "127.0.0.1", "evil, 10.0.0.1"])),
    max_size=4,
)


def canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))


def test_addresses_and_networks_between_commas_or_one_by_one() -> None:
    assert [str(network) for network in TRUSTED] == ["10.0.0.0/8", "192.0.2.1/32", "2001:db8:ff::/48"]


@given(client=STRANGERS, chain=st.lists(PROXIES, min_size=1, max_size=5), forged=FORGED, split=st.integers(0, 20))
def test_a_chain_of_our_proxies_leads_to_the_client(
    client: str, chain: list[str], forged: list[str], split: int
) -> None:
    """Each of our proxies appends where its own connection came from, to the same line or as one of its own."""
    entries = [*forged, client, *chain[:-1]]
    split = min(split, len(entries))
    lines = [", ".join(part) for part in (entries[:split], entries[split:]) if part]
    assert client_address(chain[-1], lines, TRUSTED) == canonical(client)


@given(stranger=STRANGERS, forged=FORGED)
def test_nobody_else_s_header_is_believed(stranger: str, forged: list[str]) -> None:
    assert client_address(stranger, [", ".join(forged)], TRUSTED) == stranger


@given(client=STRANGERS, stranger=STRANGERS, chain=st.lists(PROXIES, min_size=1, max_size=3))
def test_a_strangers_proxy_before_ours_is_the_client(client: str, stranger: str, chain: list[str]) -> None:
    assert client_address(chain[-1], [", ".join([client, stranger, *chain[:-1]])], TRUSTED) == canonical(stranger)


@given(
    chain=st.lists(PROXIES, min_size=1, max_size=3),
    junk=st.sampled_from(["", "unknown", "1.2.3", "10.0.0.1:x", "[", "[::1"]),
)
def test_where_one_of_ours_names_nobody_it_is_the_client_itself(chain: list[str], junk: str) -> None:
    assert client_address(chain[-1], [", ".join([junk, *chain[:-1]])], TRUSTED) == (
        canonical(chain[0]) if len(chain) > 1 else chain[0]
    )


@pytest.mark.parametrize(
    ("entry", "client"),
    [
        ("198.51.100.7:4711", "198.51.100.7"),
        ("[2001:db8:1::7]:4711", "2001:db8:1::7"),
        ("[2001:db8:1::7]", "2001:db8:1::7"),
        ("2001:db8:1::7", "2001:db8:1::7"),
    ],
)
def test_a_port_that_a_proxy_adds_is_no_part_of_the_address(entry: str, client: str) -> None:
    """Otherwise everybody behind that proxy would be one client."""
    assert client_address("10.0.0.1", [entry], TRUSTED) == client


@pytest.mark.parametrize("entry", ["198.51.100.7:", "198.51.100.7:123456", "198.51.100.7:4a", "[2001:db8::1]x", "::1:"])
def test_what_is_nearly_an_address_with_a_port_is_none(entry: str) -> None:
    assert client_address("10.0.0.1", [entry], TRUSTED) == "10.0.0.1"
