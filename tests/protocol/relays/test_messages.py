"""What travels to and from a relay: what is written is read, what may grow is ignored, all else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol import codec, names
from peer.protocol.errors import Invalid
from peer.protocol.relays import messages as m

DEVICE = names.peer_id_text(names.peer_id_of(bytes(range(32))))


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


numbers = st.integers(0, 2**32 - 1)
every = st.one_of(
    st.builds(m.Challenge, exactly(32), st.text(max_size=m.MAX_ORIGIN)),
    st.builds(m.Proof, st.just(DEVICE), exactly(64), st.binary(max_size=m.MAX_TOKEN)),
    st.builds(m.Welcome, numbers),
    st.builds(m.Listen, st.lists(exactly(16), max_size=40).map(tuple)),
    st.builds(m.Ring, numbers, exactly(16), st.binary(min_size=1, max_size=m.MAX_RING)),
    st.builds(m.Renewal, st.binary(min_size=1, max_size=m.MAX_TOKEN)),
    st.builds(m.Ticket, numbers, exactly(16)),
    st.builds(m.Incoming, exactly(16), st.binary(min_size=1, max_size=m.MAX_RING), exactly(16)),
    st.builds(m.Refusal, numbers, st.integers(0, 599)),
    st.builds(m.Join, exactly(16)),
    st.just(m.Joined()),
    st.builds(m.Probe, numbers, st.integers(1, 65535)),
    st.builds(m.Probed, numbers, st.ip_addresses().map(str), exactly(16)),
)
later = st.dictionaries(st.integers(128, 65535), st.integers(0, 9), max_size=3)


@given(every, later)
def test_what_is_written_is_read_and_ignorable_keys_change_nothing(message: m.OwnMessage, more: dict[int, int]) -> None:
    raw = m.encode(message)
    assert m.decode(raw) == message
    value = codec.decode(raw)
    assert isinstance(value, dict)
    assert m.decode(codec.encode(dict([*value.items(), *more.items()]))) == message


@given(every, st.sampled_from([9, 127, 65536]))
def test_a_critical_key_is_refused(message: m.OwnMessage, key: int) -> None:
    value = codec.decode(m.encode(message))
    assert isinstance(value, dict)
    with pytest.raises(Invalid):
        m.decode(codec.encode(dict([*value.items(), (key, 1)])))


def test_a_later_kind_is_ignored() -> None:
    assert m.decode(codec.encode({0: 99, 1: [2, 3]})) == m.Unknown(99)


@given(st.binary(max_size=80))
def test_garbage_is_refused_or_unknown(raw: bytes) -> None:
    try:
        found = m.decode(raw)
    except Invalid:
        return
    assert isinstance(found, m.Unknown) or m.encode(found)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {0: "1"},
        {0: True, 1: 5},
        {0: 2},
        {0: 3, 1: [bytes(15)]},
        {0: 3, 1: [bytes(16)] * (m.MAX_TAGS + 1)},
        {0: 4, 1: 0, 2: bytes(16), 3: bytes(m.MAX_RING + 1)},
        {0: 1, 1: bytes(38), 2: bytes(64), 3: b""},
    ],
)
def test_bad_messages(value: codec.Value) -> None:
    with pytest.raises(Invalid):
        m.decode(codec.encode(value))


def test_the_longest_list_of_tags_fits() -> None:
    assert len(m.encode(m.Listen((bytes(16),) * m.MAX_TAGS))) < m.MAX_MESSAGE
