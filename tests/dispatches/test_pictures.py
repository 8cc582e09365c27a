"""A picture is what its first bytes say, of four formats, and not larger than what can be drawn."""

from __future__ import annotations

import struct

import pytest

from peer.dispatches.pictures import MAX_DOTS, Picture, picture

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(10) + b"\xff\xff\xc0\0\x11\x08\0\x20\0\x30\x03"


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (PNG + struct.pack(">II", 320, 120), Picture("image/png", 320, 120)),
        (b"GIF89a" + struct.pack("<HH", 7, 9), Picture("image/gif", 7, 9)),
        (JPEG, Picture("image/jpeg", 0x30, 0x20)),
        (b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + b"\x0f\0\0\x1f\0\0", Picture("image/webp", 16, 32)),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + b"\x05\0\x06\0", Picture("image/webp", 5, 6)),
        (b"RIFF\0\0\0\0WEBPVP8L" + bytes(4) + b"\x2f\x04\x40\x01\0" + bytes(5), Picture("image/webp", 5, 6)),
        (PNG + struct.pack(">II", MAX_DOTS, 2), None),
        (PNG + struct.pack(">II", 0, 2), None),
        (PNG, None),
        (b"GIF89a", None),
        (b"\xff\xd8\xff", None),
        (b"\xff\xd8\xff\xe0\0\0\xff\xd8", None),
        (b"RIFF\0\0\0\0WEBPVP9 " + bytes(20), None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"", None),
    ],
)
def test_a_picture_is_known_by_its_first_bytes(head: bytes, found: Picture | None) -> None:
    assert picture(head) == found
