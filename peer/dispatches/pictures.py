"""Which bytes are a picture that a page may show, by their first ones alone, and how large it is. Pure.

Four formats of dots. SVG is a document, with scripts and addresses, and is none of them.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_DOTS: Final = 40_000_000
"""Width times height of what is shown: a small file may say that it is a large picture, which takes memory to draw."""
HEAD: Final = 512 * 1024
"""Bytes at the beginning of a file in which its size is found: photographs have theirs behind their other facts."""

_START_OF_FRAME: Final = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers of JPEG without a length behind them."""


class Picture(NamedTuple):
    """`type` is the media type; width and height in dots."""

    type: str
    width: int
    height: int


def picture(head: bytes) -> Picture | None:
    """Return what picture begins with these bytes; None for what is none, has no size here, or is too large."""
    found = _png(head) or _gif(head) or _webp(head) or _jpeg(head)
    return found if found is not None and 0 < found.width * found.height <= MAX_DOTS else None


def _big(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _png(head: bytes) -> Picture | None:
    if not head.startswith(b"\x89PNG\r\n\x1a\n") or head[12:16] != b"IHDR" or len(head) < 24:
        return None
    return Picture("image/png", _big(head[16:20]), _big(head[20:24]))


def _gif(head: bytes) -> Picture | None:
    if not head.startswith((b"GIF87a", b"GIF89a")) or len(head) < 10:
        return None
    return Picture("image/gif", _little(head[6:8]), _little(head[8:10]))


def _webp(head: bytes) -> Picture | None:
    if not head.startswith(b"RIFF") or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    match head[12:16]:
        case b"VP8X":
            return Picture("image/webp", _little(head[24:27]) + 1, _little(head[27:30]) + 1)
        case b"VP8 ":
            return Picture("image/webp", _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF)
        case b"VP8L":
            bits = _little(head[21:25])
            return Picture("image/webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        case _:
            return None


def _jpeg(head: bytes) -> Picture | None:
    if not head.startswith(b"\xff\xd8\xff"):
        return None
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
        elif marker in _START_OF_FRAME:
            return Picture("image/jpeg", _big(head[at + 7 : at + 9]), _big(head[at + 5 : at + 7]))
        else:
            at += 2 + max(2, _big(head[at + 2 : at + 4]))
    return None
