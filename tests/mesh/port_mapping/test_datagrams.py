"""PCP and NAT-PMP on the wire, as RFC 6887 and RFC 6886 draw them."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.mesh.port_mapping import datagrams as d
from peer.protocol.errors import Invalid
from tests.mesh.port_mapping.fakes import FakePcp

NONCE = bytes(range(12))
OWN = IPv4Address("192.168.1.7")
ports = st.integers(1, 65535)
leases = st.integers(1, 2**32 - 1)

PCP_REQUEST = bytes.fromhex(
    "02 01 0000"  # version 2, request of opcode MAP, reserved (RFC 6887, figure 2)
    "00001c20"  # requested lifetime: 7200
    "00000000000000000000ffffc0a80107"  # the client's address
    "000102030405060708090a0b"  # mapping nonce (figure 9)
    "06 000000"  # TCP, reserved
    "0fa1 0fa1"  # internal port, suggested external port
    "00000000000000000000ffff00000000"  # suggested external address: any of IPv4
)
PCP_ANSWER = bytes.fromhex(
    "02 81 00 00"  # version 2, response of opcode MAP, reserved, SUCCESS (figure 3)
    "00000e10"  # lifetime: 3600
    "00000001 000000000000000000000000"  # epoch, reserved
    "000102030405060708090a0b 06 000000"  # nonce, TCP (figure 10)
    "0fa1 9c40"  # internal port, assigned external port
    "00000000000000000000ffffcb007105"  # assigned external address
)
NAT_PMP_REQUEST = bytes.fromhex("00 02 0000 0fa1 0fa1 00001c20")  # RFC 6886, 3.3
NAT_PMP_ANSWER = bytes.fromhex("00 82 0000 00000001 0fa1 9c40 00000e10")
UNSUPPORTED_VERSION = bytes.fromhex("00 80 0001 00000001")  # RFC 6886, 3.5


def test_pcp_as_the_rfc_draws_it() -> None:
    assert d.pcp_map(NONCE, own=OWN, internal=4001, suggested=4001, seconds=7200) == PCP_REQUEST
    assert d.read_pcp(PCP_ANSWER, nonce=NONCE, internal=4001) == d.Granted(40000, 3600)


def test_nat_pmp_as_the_rfc_draws_it() -> None:
    assert d.nat_pmp_map(internal=4001, suggested=4001, seconds=7200) == NAT_PMP_REQUEST
    assert d.read_nat_pmp(NAT_PMP_ANSWER, internal=4001) == d.Granted(40000, 3600)


@pytest.mark.parametrize(
    "raw",
    [
        UNSUPPORTED_VERSION,
        bytes.fromhex("00 82 0001 00000001"),
        PCP_ANSWER.replace(b"\x02\x81\0\0", b"\x01\x81\0\1", 1),
    ],
)
def test_a_gateway_of_nat_pmp_alone_says_so(raw: bytes) -> None:
    with pytest.raises(d.NatPmpAlone):
        d.read_pcp(raw, nonce=NONCE, internal=4001)


@pytest.mark.parametrize("result", [2, 3, 8, 13, 255])
def test_a_refusal_of_pcp(result: int) -> None:
    with pytest.raises(Invalid, match=str(result)):
        d.read_pcp(PCP_ANSWER[:3] + bytes([result]) + PCP_ANSWER[4:], nonce=NONCE, internal=4001)


@pytest.mark.parametrize("raw", ["00 82 0002 00000001", "00 82 0003 00000001 0fa1 0000 00000000"])
def test_a_refusal_of_nat_pmp_long_or_short(raw: str) -> None:
    with pytest.raises(Invalid):
        d.read_nat_pmp(bytes.fromhex(raw), internal=4001)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(PCP_ANSWER[:-4], id="short"),
        pytest.param(PCP_ANSWER + b"x", id="no multiple of four"),
        pytest.param(PCP_ANSWER + bytes(d.MAX_BYTES), id="too long"),
        pytest.param(PCP_ANSWER.replace(NONCE, bytes(12)), id="another nonce"),
        pytest.param(PCP_ANSWER.replace(b"\x0f\xa1", b"\x0f\xa2"), id="another port"),
        pytest.param(PCP_ANSWER.replace(NONCE + b"\x06", NONCE + b"\x11"), id="UDP"),
        pytest.param(PCP_REQUEST, id="our own request"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_answer_of_pcp_is_passed_over(raw: bytes) -> None:
    assert d.read_pcp(raw, nonce=NONCE, internal=4001) is None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(NAT_PMP_ANSWER[:-1], id="short"),
        pytest.param(NAT_PMP_ANSWER + b"x", id="long"),
        pytest.param(NAT_PMP_ANSWER.replace(b"\x0f\xa1", b"\x0f\xa2"), id="another port"),
        pytest.param(NAT_PMP_ANSWER.replace(b"\x00\x82", b"\x00\x81", 1), id="UDP"),
        pytest.param(NAT_PMP_REQUEST, id="our own request"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_no_answer_of_nat_pmp_is_passed_over(raw: bytes) -> None:
    assert d.read_nat_pmp(raw, internal=4001) is None


@given(st.binary(max_size=1200), st.sampled_from([b"", PCP_ANSWER[:24], PCP_ANSWER[:40], NAT_PMP_ANSWER[:8]]))
def test_garbage_is_an_answer_of_whole_numbers_or_none(raw: bytes, head: bytes) -> None:
    whole = head + raw
    try:
        found = [d.read_pcp(whole, nonce=NONCE, internal=4001), d.read_nat_pmp(whole, internal=4001)]
    except (Invalid, d.NatPmpAlone):
        return
    assert all(each is None or (0 <= each.external < 1 << 16 and 0 <= each.seconds < 1 << 32) for each in found)


@given(ports, ports, leases)
def test_what_is_asked_for_is_read_by_a_gateway(internal: int, suggested: int, seconds: int) -> None:
    gateway = FakePcp()
    (answer,) = gateway.answers(d.pcp_map(NONCE, own=OWN, internal=internal, suggested=suggested, seconds=seconds))
    assert d.read_pcp(answer, nonce=NONCE, internal=internal) == d.Granted(suggested, seconds)
    (answer,) = gateway.answers(d.nat_pmp_map(internal=internal, suggested=suggested, seconds=seconds))
    assert d.read_nat_pmp(answer, internal=internal) == d.Granted(suggested, seconds)
