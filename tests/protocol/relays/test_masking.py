"""Masking in C does what wsproto's own masking does, whatever the parts."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage

from peer.protocol.relays.masking import Masker, mask_in_c

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
