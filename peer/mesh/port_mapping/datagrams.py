"""What is sent to and read from a gateway on port 5351: PCP (RFC 6887) and NAT-PMP (RFC 6886), for TCP alone. Pure.

Both share the port, and a gateway that knows NAT-PMP alone refuses PCP's version in a form of its own (RFC 6887,
appendix A). The external address is not asked for: it would have to be believed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from peer.protocol.errors import NO_FIX, Invalid

PORT: Final = 5351
MAX_BYTES: Final = 1100
"""Of a datagram of PCP (RFC 6887, 7)."""
NONCE_BYTES: Final = 12

_PCP, _NAT_PMP = 2, 0
_PCP_MAP, _PCP_ANSWER = 1, 0x81
_NAT_PMP_MAP_TCP, _NAT_PMP_ANSWER = 2, 128
_TCP: Final = 6
_PCP_HEAD: Final = struct.Struct(">BBHI16s")
_PCP_HEAD_BACK: Final = struct.Struct(">BBBBII12x")
_PCP_MAPPING: Final = struct.Struct(">12sB3xHH16s")
_NAT_PMP_MAPPING: Final = struct.Struct(">BBHHHI")
_NAT_PMP_MAPPING_BACK: Final = struct.Struct(">BBHIHHI")
_UNSUPPORTED_VERSION: Final = 1
_ANY_IPV4: Final = IPv6Address("::ffff:0.0.0.0").packed


class NatPmpAlone(Exception):
    """The gateway does not speak PCP."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What a gateway has mapped to a port here: its own port, for so many seconds. Zero of both: nothing any more."""

    external: int
    seconds: int


def pcp_map(nonce: bytes, *, own: IPv4Address, internal: int, suggested: int, seconds: int) -> bytes:
    """Return a request to map a port, or with `seconds` 0 to end that. `own`: the address that it is sent from."""
    client = IPv6Address(f"::ffff:{own}").packed
    return _PCP_HEAD.pack(_PCP, _PCP_MAP, 0, seconds, client) + _PCP_MAPPING.pack(
        nonce, _TCP, internal, suggested, _ANY_IPV4
    )


def read_pcp(raw: bytes, *, nonce: bytes, internal: int) -> Granted | None:
    """Read the answer to `pcp_map`, None for what is no answer to that. Raises NatPmpAlone; Invalid for a refusal."""
    if len(raw) >= 4 and raw[0] == _NAT_PMP and raw[1] & _NAT_PMP_ANSWER and raw[2:4] == b"\0\1":
        raise NatPmpAlone
    if not _PCP_HEAD_BACK.size + _PCP_MAPPING.size <= len(raw) <= MAX_BYTES or len(raw) % 4:
        return None
    version, operation, _, result, seconds, _ = _PCP_HEAD_BACK.unpack_from(raw)
    found_nonce, protocol, port, external, _ = _PCP_MAPPING.unpack_from(raw, _PCP_HEAD_BACK.size)
    if operation != _PCP_ANSWER or (found_nonce, protocol, port) != (nonce, _TCP, internal):
        return None
    if result == _UNSUPPORTED_VERSION or version != _PCP:
        raise NatPmpAlone
    if result:
        raise _refused(result)
    return Granted(external, seconds)


def nat_pmp_map(*, internal: int, suggested: int, seconds: int) -> bytes:
    """Return a request to map a port, or with `suggested` and `seconds` 0 to end that."""
    return _NAT_PMP_MAPPING.pack(_NAT_PMP, _NAT_PMP_MAP_TCP, 0, internal, suggested, seconds)


def read_nat_pmp(raw: bytes, *, internal: int) -> Granted | None:
    """Read the answer to `nat_pmp_map`, None for what is no answer to that. Raises Invalid for a refusal."""
    if len(raw) < 4 or raw[0] != _NAT_PMP or raw[1] != _NAT_PMP_ANSWER + _NAT_PMP_MAP_TCP:
        return None
    if result := int.from_bytes(raw[2:4], "big"):
        raise _refused(result)  # such an answer may end here
    if len(raw) != _NAT_PMP_MAPPING_BACK.size:
        return None
    *_, port, external, seconds = _NAT_PMP_MAPPING_BACK.unpack(raw)
    return Granted(external, seconds) if port == internal else None


def _refused(result: int) -> Invalid:
    return Invalid(f"the router refused to map a port (result {result})", fix=NO_FIX)
