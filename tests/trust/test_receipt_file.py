"""The file of a receipt: each byte string has one encoding. What the parts prove is in tests/steps/test_receipts.py."""

from __future__ import annotations

import pytest

from peer.protocol import codec
from peer.trust import receipts
from peer.trust.receipts import Altered, Receipt


def file_with(head: bytes, content: bytes) -> bytes:
    """A file whose first part has this head and content, and whose other parts are empty."""
    return receipts.MAGIC + head + content + b"\x40" * 4


@pytest.mark.parametrize("size", [0, 1, 23, 24, 255, 256, 65_535, 65_536])
def test_a_part_of_any_size_comes_back(size: int) -> None:
    content = b"\xff" * size
    whole = Receipt(dispatch=b"d", decision=b"", events=(content, b""), result=b"r", sender=content, recipient=b"")
    assert receipts.decode(receipts.encode(whole)) == whole
    assert receipts.decode(file_with(codec.encode(content)[: -size or None], content)).sender == content


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"\x58\x17", 23),  # one byte of length would not have been needed
        (b"\x59\x00\xff", 255),
        (b"\x5a\x00\x00\xff\xff", 65_535),
        (b"\x5b" + (1).to_bytes(8), 1),  # eight bytes of length: larger than any receipt
        (b"\x5b" + (1 << 32).to_bytes(8), 1),
        (b"\x5c", 0),
        (b"\x5f", 0),  # of no stated length
        (b"\x03", 0),  # a number
        (b"\x63", 3),  # a text
        (b"\x78\x18", 24),
        (b"\x83", 3),
    ],
)
def test_what_is_no_byte_string_in_its_one_encoding_is_refused(head: bytes, size: int) -> None:
    with pytest.raises(Altered, match="sender's device-set has an invalid beginning"):
        receipts.decode(file_with(head, bytes(size)))


def test_a_length_without_its_bytes_is_refused() -> None:
    for head in (b"\x58", b"\x59\x01", b"\x5a\x00\x01\x00"):
        with pytest.raises(Altered):
            receipts.decode(receipts.MAGIC + head)
