"""UPnP on the wire: only what is at the gateway's own address counts, and XML does nothing to its reader."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.mesh.port_mapping import igd
from peer.mesh.port_mapping.igd import Location, Refused, Service
from peer.protocol.errors import Invalid
from tests.mesh.port_mapping.fakes import DESCRIPTION, DONE, FAULT, WAN, FakeIgd

GATEWAY = IPv4Address("192.168.1.1")
AT = Location(5000, "/rootDesc.xml")


def described(*, base: str = "", service: str = WAN, control: str = "/ctl") -> bytes:
    return DESCRIPTION.format(base=base, service=service, control=control).encode()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://192.168.1.1:5000/rootDesc.xml", AT),
        ("http://192.168.1.1", Location(80, "/")),
        ("http://192.168.1.1/a?b=c", Location(80, "/a?b=c")),
        ("http://192.168.1.2:5000/rootDesc.xml", None),
        ("http://192.168.1.1.example:5000/", None),
        ("http://192.168.1.1@8.8.8.8/", None),
        ("http://8.8.8.8@192.168.1.1/", None),
        ("https://192.168.1.1/", None),
        ("file:///etc/passwd", None),
        ("http://0xc0a80101/", None),
        ("http://router.example/", None),
        ("http://[::ffff:192.168.1.1]/", None),
        ("http://192.168.1.1:0/", None),
        ("http://192.168.1.1:65536/", None),
        ("http://192.168.1.1:x/", None),
        ("http://192.168.1.1/a b", None),
        ("http://192.168.1.1/" + "a" * igd.MAX_URL, None),
        ("http://[", None),
        ("", None),
    ],
)
def test_a_place_is_at_the_gateway_or_none(url: str, found: Location | None) -> None:
    assert igd.location(url, GATEWAY) == found


@given(st.text(max_size=100))
def test_any_text_is_a_place_at_the_gateway_or_none(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{GATEWAY}{text}"):
        found = igd.location(url, GATEWAY)
        assert found is None or (0 < found.port < 65536 and found.target.startswith("/") and found.target.isascii())


def test_an_answer_to_a_search() -> None:
    fake = FakeIgd(address=GATEWAY, port=5000)
    assert igd.found_location(fake.found(), GATEWAY) == Location(5000, "/desc.xml")
    assert igd.found_location(fake.found(), IPv4Address("192.168.1.2")) is None
    assert igd.found_location(fake.found().replace(b"200 OK", b"404 No"), GATEWAY) is None
    assert igd.found_location(fake.found().replace(b"LOCATION", b"NOTHING"), GATEWAY) is None


@given(st.binary(max_size=300))
def test_garbage_is_no_answer_to_a_search(raw: bytes) -> None:
    assert igd.found_location(raw, GATEWAY) is None


def test_a_search_stays_what_ssdp_asks_for() -> None:
    first, second = igd.searches()
    assert first.startswith(b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\n')
    assert first.endswith(b"InternetGatewayDevice:1\r\n\r\n") and second.endswith(b"InternetGatewayDevice:2\r\n\r\n")


@pytest.mark.parametrize(
    ("description", "found"),
    [
        (described(), [Service(WAN, Location(5000, "/ctl"))]),
        (described(control="ctl"), [Service(WAN, Location(5000, "/ctl"))]),
        (described(control="http://192.168.1.1:80/x"), [Service(WAN, Location(80, "/x"))]),
        (described(base="<URLBase>http://192.168.1.1:49000/</URLBase>"), [Service(WAN, Location(49000, "/ctl"))]),
        (described(service=igd.SERVICES[0]), [Service(igd.SERVICES[0], Location(5000, "/ctl"))]),
        (described(control="http://192.168.1.2/ctl"), []),
        (described(control="//8.8.8.8/ctl"), []),
        (described(control="http://["), []),
        (described(control=""), []),
        (described(base="<URLBase>http://8.8.8.8/</URLBase>"), []),
        (described(service="urn:schemas-upnp-org:service:Layer3Forwarding:1"), []),
        (b"<root/>", []),
    ],
)
def test_services_that_map_ports_at_the_gateway_alone(description: bytes, found: list[Service]) -> None:
    assert igd.services(description, AT, GATEWAY) == found


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<root>",
        b"\xff\xfe<",
        b"not XML",
        b'<!DOCTYPE lolz [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;">]><root>&b;</root>',
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><root>&x;</root>',
        "<!DOCTYPE r [<!ENTITY a 'x'>]><root>&a;</root>".encode("utf-16"),
        b"<a>" * 40_000,
    ],
)
def test_what_is_no_description_is_refused(raw: bytes) -> None:
    with pytest.raises(Invalid):
        igd.services(raw, AT, GATEWAY)


def test_a_description_that_is_deep_is_read() -> None:
    assert igd.services(b"<a>" * 18_000 + b"</a>" * 18_000, AT, GATEWAY) == []


@given(st.binary(max_size=300))
def test_garbage_describes_nothing(raw: bytes) -> None:
    with suppress(Invalid):
        assert igd.services(raw, AT, GATEWAY) == []


def test_what_a_call_answers() -> None:
    igd.check_answer(200, DONE.format(name="AddPortMapping", service=WAN, inside="").encode(), "AddPortMapping")
    with pytest.raises(Refused) as refused:
        igd.check_answer(500, FAULT.format(error=718).encode(), "AddPortMapping")
    assert refused.value.error == igd.CONFLICT


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, FAULT.format(error=718)),
        (200, DONE.format(name="DeletePortMapping", service=WAN, inside="")),
        (500, DONE.format(name="AddPortMapping", service=WAN, inside="")),
        (302, DONE.format(name="AddPortMapping", service=WAN, inside="")),
        (500, FAULT.format(error="x" * 1000)),
        (500, FAULT.format(error="9" * 1000)),
        (200, "<a/>"),
        (200, ""),
    ],
)
def test_everything_else_is_a_refusal(status: int, body: str) -> None:
    with pytest.raises(Invalid):
        igd.check_answer(status, body.encode(), "AddPortMapping")


def test_arguments_are_escaped() -> None:
    assert b"<k>&lt;/k&gt;&amp;</k>" in igd.envelope(WAN, "AddPortMapping", [("k", "</k>&")])
