"""Yamux frame headers as bytes and values (hashicorp/yamux spec.md, version 0). Pure: no streams, no I/O."""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

HEADER = struct.Struct("!BBHII")
HEADER_BYTES = HEADER.size

INITIAL_WINDOW = 256 * 1024
"""Bytes each side may send on a new stream before its first window update (spec: "Flow Control")."""

MAX_STREAM_ID = 0xFFFF_FFFF

MAX_FRAME_PAYLOAD = 64 * 1024 - 2 - 16 - HEADER_BYTES
"""Bytes of data in one frame: with its header, and the length and tag of the Noise message that has both, it is 64 KiB,
so four of them are one piece of a relay's pipe (MAX_PIECE)."""


class Kind(enum.IntEnum):
    """The four frame types."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


_KINDS = tuple(Kind)


class Flag(enum.IntFlag):
    """Flags of DATA and WINDOW_UPDATE; PING uses SYN for a question and ACK for its answer."""

    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class Reason(enum.IntEnum):
    """The reason in a GO_AWAY."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class Header(NamedTuple):
    """One header. `length` is the size of DATA, the delta of WINDOW_UPDATE, PING's number, GO_AWAY's reason."""

    kind: Kind
    flags: int
    stream_id: int
    length: int


def pack(kind: Kind, flags: int, stream_id: int, length: int) -> bytes:
    """Return the 12 bytes of a header."""
    return HEADER.pack(0, kind, flags, stream_id, length)


def unpack(data: memoryview | bytes) -> Header:
    """Read a header from the first 12 bytes of `data`. Raises ValueError for another version or an unknown type."""
    version, kind, flags, stream_id, length = HEADER.unpack_from(data)
    if version != 0:
        raise ValueError(f"yamux version {version}")
    if kind >= len(_KINDS):
        raise ValueError(f"yamux frame of type {kind}")
    return Header(_KINDS[kind], flags, stream_id, length)
