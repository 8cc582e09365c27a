"""What was received on a stream, beside a plain buffer; and that it keeps no more in memory than it has."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.mesh.guards.yamux_buffer import LARGE, ReceivedBytes

MESSAGE = 65_519


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.sampled_from([0, 1, 2, 1000, LARGE - 1, LARGE, LARGE + 1, MESSAGE - 12])),
            st.tuples(st.just("take"), st.sampled_from([0, 1, 999, LARGE, MESSAGE, 1 << 20])),
        ),
        max_size=20,
    )
)
def test_bytes_come_out_as_they_went_in(steps: list[tuple[str, int]]) -> None:
    buffer, plain, number = ReceivedBytes(), bytearray(), 0
    for step, size in steps:
        if step == "append":
            number += 1
            message = bytes([number]) * MESSAGE
            buffer.append(memoryview(message)[:size])
            plain += message[:size]
        else:
            assert buffer.take(size) == plain[:size]
            del plain[:size]
        assert len(buffer) == len(plain)
    assert buffer.take(len(plain)) == plain
    assert not len(buffer)


@pytest.mark.parametrize("size", [2, 5_000, LARGE, 60_000])
def test_a_part_does_not_keep_its_message_in_memory(size: int) -> None:
    """Seen to fail with every view kept."""
    buffer = ReceivedBytes()
    message = bytes(MESSAGE)
    held = sys.getrefcount(message)
    buffer.append(memoryview(message)[:size])
    assert sys.getrefcount(message) == held


def test_the_rest_of_a_message_does_not_keep_all_of_it() -> None:
    """Seen to fail where what is left of a piece stayed a view of it."""
    buffer = ReceivedBytes()
    message = bytes(MESSAGE)
    held = sys.getrefcount(message)
    buffer.append(memoryview(message))
    assert sys.getrefcount(message) > held, "nearly all of it is there: no copy"
    assert len(buffer.take(MESSAGE - 5)) == MESSAGE - 5
    assert sys.getrefcount(message) == held and len(buffer) == 5


def test_many_tiny_pieces_are_a_few() -> None:
    """Seen to fail with a piece for each: a hundred bytes for every two."""
    buffer = ReceivedBytes()
    for _ in range(100_000):
        buffer.append(memoryview(b"ab"))
    assert len(buffer) == 200_000 and len(buffer._pieces) <= 200_000 // LARGE + 1
