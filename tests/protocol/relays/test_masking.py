"""Masking in C does what wsproto's own masking does, whatever the parts."""

from __future__ import annotations

import os
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage
from wsproto.frame_protocol import FrameProtocol, Opcode

from peer.protocol.relays.masking import LARGE, Masker, _serialized_by_wsproto, mask_in_c, serialized

KEYS = st.binary(min_size=4, max_size=4)


@given(KEYS, st.lists(st.binary(max_size=50)))
def test_each_byte_has_its_byte_of_the_key(key: bytes, parts: list[bytes]) -> None:
    masker = Masker(bytearray(key))
    masked = b"".join(bytes(masker.process(bytearray(part))) for part in parts)
    assert masked == bytes(byte ^ key[at % 4] for at, byte in enumerate(b"".join(parts)))


@given(st.binary(max_size=300), st.integers(1, 100))
def test_wsproto_masks_and_unmasks_with_it(message: bytes, at_once: int) -> None:
    mask_in_c()
    sent: list[bytes] = []

    class Watched(Masker):
        def process(self, data: bytearray) -> bytearray:
            sent.append(bytes(data))
            return super().process(data)

    with mock.patch("wsproto.frame_protocol.XorMaskerSimple", Watched):
        frame = Connection(ConnectionType.CLIENT).send(BytesMessage(data=message))
        assert sent == [message]
        server, received = Connection(ConnectionType.SERVER), b""
        for start in range(0, len(frame), at_once):
            server.receive_data(frame[start : start + at_once])
            received += b"".join(event.data for event in server.events() if isinstance(event, BytesMessage))
    assert received == message


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("size", [0, LARGE - 1, LARGE, LARGE + 3, 262_144])
def test_a_large_frame_is_the_one_that_wsproto_makes(client: bool, size: int) -> None:
    """Seen to fail with the key begun anew, and without the bit of a masked frame."""
    payload, key = os.urandom(size), os.urandom(4)
    protocol = FrameProtocol(client, [])
    with mock.patch("os.urandom", lambda _: key):
        for fin in (True, False):
            ours = serialized(protocol, Opcode.BINARY, payload, fin)
            assert bytes(ours) == bytes(_serialized_by_wsproto(protocol, Opcode.BINARY, payload, fin))
