"""Hosts as a person names them: what is taken, in which one form, and what is refused, with the reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import Invalid
from peer.trust import grants, scopes
from peer.trust.hosts import parse_host
from peer.trust.scopes import Scope


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("github.com", "github.com"),
        (" GitHub.COM. ", "github.com"),
        ("git.example.org:8443", "git.example.org:8443"),
        ("git.example.org:443", "git.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("рaypal.example", "xn--aypal-uye.example"),  # its first letter is Cyrillic
        ("a_b.example.org", ""),
        ("a-b.example.org", "a-b.example.org"),
    ],
)
def test_one_form_of_each(typed: str, kept: str) -> None:
    if not kept:
        with pytest.raises(Invalid):
            parse_host(typed)
    else:
        assert str(parse_host(typed)) == kept


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("https://github.com", "not a host name"),
        ("github.com/user", "not a host name"),
        ("user@github.com", "not a host name"),
        ("*.github.com", "more than one host"),
        ("github.com:0", "has an invalid port"),
        ("github.com:65536", "has an invalid port"),
        ("github.com:", "has an invalid port"),
        ("github.com:٤٤٣", "has an invalid port"),
        ("93.184.216.34", "is an IP address"),
        ("[2606:2800::1]", "is an IP address"),
        ("2606:2800::1", "is an IP address"),
        ("127.1", "is an IP address"),
        ("0x7f.1", "is an IP address"),
        ("example.0x7f000001", "is an IP address"),
        ("localhost", "not an internet host"),
        ("intranet", "not an internet host"),
        ("printer.local", "not an internet host"),
        ("git.corp.internal", "not an internet host"),
        ("", "not a host name"),
        ("a..b", "not a host name"),
        ("-a.example", "not a host name"),
        ("a b.example", "not a host name"),
        (f"{'a' * 64}.example", "not a host name"),
        (".".join(["a" * 60] * 5) + ".example", "not"),
    ],
)
def test_what_is_refused(typed: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        parse_host(typed)
    assert refused.value.fix


@given(st.text(max_size=80))
def test_any_text_is_refused_or_has_one_form(text: str) -> None:
    try:
        kept = parse_host(text)
    except Invalid:
        return
    assert parse_host(str(kept)) == kept and str(kept).isascii()


def granted(network: object) -> Scope:
    return grants.grant(grants.ScopeInput(tools="Bash", network=network), installed=(), now=0)  # type: ignore[arg-type]


def test_a_scope_keeps_them_sorted_and_each_once() -> None:
    assert granted("b.example, a.example:8443,B.example").network == ("a.example:8443", "b.example")
    assert granted(["a.example"]).network == ("a.example",)
    assert granted("none").network == granted([]).network == ()
    assert scopes.decode(scopes.encode(granted("a.example"))).network == ("a.example",)
    too_many = [f"h{n}.example" for n in range(scopes.MAX_HOSTS + 1)]
    for wrong in (too_many, "a.example,none", "10.0.0.1"):
        with pytest.raises(Invalid):
            granted(wrong)
    with pytest.raises(Invalid):
        scopes.check(Scope(tools=("Bash",), network=("B.example",)))


def test_a_host_needs_confirmation_and_widens() -> None:
    none, one, two = (granted(hosts) for hosts in ("none", "a.example", "a.example,b.example"))
    assert "the network: a.example" in scopes.needs_confirmation(one)
    assert scopes.widens(none, one) == ("the network: a.example",)
    assert scopes.widens(one, two) == ("the network: b.example",)
    assert scopes.widens(two, one) == () == scopes.widens(one, none)


def test_fewer_packages_are_not_wider() -> None:
    every, named = (granted(word) for word in ("any-packages", "packages"))
    assert scopes.widens(every, named) == ()
    assert scopes.widens(named, every) == ("any package",)


def test_the_budget_of_bytes_is_bounded() -> None:
    def with_budget(size: int) -> Scope:
        given = grants.ScopeInput(tools="Bash", budget=grants.BudgetInput(network_bytes=size))
        return grants.grant(given, installed=(), now=0)

    assert granted("none").budget.network_bytes == 1_000 * scopes.MB
    assert with_budget(scopes.MB).budget.network_bytes == scopes.MB
    for wrong in (0, scopes.MB - 1, 1_000_000 * scopes.MB + 1):
        with pytest.raises(Invalid, match="network_bytes"):
            with_budget(wrong)
    assert scopes.widens(with_budget(scopes.MB), granted("none"))[-1] == "a larger budget of network bytes"
