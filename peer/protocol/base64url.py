"""Bytes as text in JSON: base64url without padding (RFC 4648 section 5), exactly one text per byte string. Pure."""

from __future__ import annotations

import base64
import binascii
import re

from peer.protocol.errors import Invalid

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")


def encode(raw: bytes) -> str:
    """Return the unpadded base64url text of `raw`."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes that `text` encodes. Raises Invalid for padding, other characters and non-zero spare bits."""
    # The standard decoder skips other characters and ignores spare bits, so one value would have several texts.
    if _ALPHABET.fullmatch(text):
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except binascii.Error:
            raw = b""
        if encode(raw) == text:
            return raw
    raise Invalid("that is not base64url text without padding (RFC 4648 section 5)", fix="copy it whole")
