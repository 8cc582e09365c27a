"""The courier's frames: what is written is read, what may grow is ignored, and everything else is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.mesh.courier import CourierLimits, wire
from peer.mesh.courier.wire import AcknowledgementFrame, Frame, HelloFrame, StatementFrame, UnknownFrame
from peer.protocol import codec
from peer.protocol.acknowledgements import Acknowledgement, Disposition, disposition
from peer.protocol.codec import Value
from peer.protocol.errors import Invalid, TooLarge
from peer.protocol.frames import Deframer

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol.md"
UINT64 = 2**64 - 1

values = st.recursive(
    st.none() | st.booleans() | st.integers(0, UINT64) | st.binary(max_size=20) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.integers(0, 99), inner, max_size=3),
    max_leaves=5,
)
later = st.dictionaries(st.integers(16, UINT64), values, max_size=3)


def payload(content: wire.OwnFrame) -> bytes:
    """The CBOR inside a frame."""
    deframer = Deframer()
    deframer.feed(wire.encode(content))
    inside = deframer.next_frame(wire.MAX_FRAME)
    assert inside is not None and not len(deframer)
    return inside


def read(raw: bytes) -> Frame:
    return wire.decode(codec.decode(raw, max_bytes=wire.MAX_FRAME))


def plain(content: wire.OwnFrame) -> dict[int, Any]:
    decoded: Any = codec.decode(payload(content), max_bytes=wire.MAX_FRAME)
    return dict(decoded)


own_frames: st.SearchStrategy[wire.OwnFrame] = st.one_of(
    st.builds(StatementFrame, st.integers(0, UINT64), st.binary(max_size=300)),
    st.builds(
        AcknowledgementFrame,
        st.integers(0, UINT64),
        st.builds(Acknowledgement, st.integers(100, 599), st.text("aä€😀"), st.text("b", max_size=1200)),
    ),
    st.builds(HelloFrame, st.binary(min_size=1, max_size=300)),
)


@given(own_frames)
def test_frames_come_back_as_they_went_their_texts_cut(content: wire.OwnFrame) -> None:
    if isinstance(content, AcknowledgementFrame):
        reply = content.acknowledgement
        short = Acknowledgement(reply.code, reply.message[:1000], reply.fix[:1000])
        assert read(payload(content)) == AcknowledgementFrame(content.seq, short)
        assert len(payload(content)) <= wire.MAX_REPLY
    else:
        assert read(payload(content)) == content


@given(own_frames, later)
def test_keys_from_sixteen_on_are_ignored(content: wire.OwnFrame, more: dict[int, Any]) -> None:
    assert wire.decode(plain(content) | more) == wire.decode(plain(content))


@given(own_frames, st.integers(1, 15), values)
def test_no_key_below_sixteen_is_ignored(content: wire.OwnFrame, key: int, value: Any) -> None:
    fields = plain(content)
    if key not in fields:
        with pytest.raises(Invalid, match=f"no key {key}"):
            wire.decode(fields | {key: value})


@given(st.integers(3, UINT64), st.dictionaries(st.integers(1, UINT64), values, max_size=5))
def test_a_frame_of_a_higher_kind_is_unknown_whatever_it_holds(kind: int, fields: dict[int, Any]) -> None:
    assert wire.decode({0: kind} | fields) == UnknownFrame(kind)


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        [0, 0, b""],
        {},
        {0: -1, 1: 0, 2: b""},
        {0: "0", 1: 0, 2: b""},
        {0: False, 1: 0, 2: b""},
        {0: True, 1: 0, 2: 200, 3: "", 4: ""},
        {"kind": 0},
        {0: 0, 1: 0},
        {0: 0, 2: b""},
        {0: 0, 1: -1, 2: b""},
        {0: 0, 1: True, 2: b""},
        {0: 0, 1: 0, 2: "text"},
        {0: 1, 1: 0, 2: 200, 3: ""},
        {0: 1, 1: False, 2: 200, 3: "", 4: ""},
        {0: 1, 1: 0, 2: 99, 3: "", 4: ""},
        {0: 1, 1: 0, 2: 600, 3: "", 4: ""},
        {0: 1, 1: 0, 2: b"200", 3: "", 4: ""},
        {0: 1, 1: 0, 2: 200, 3: None, 4: ""},
        {0: 1, 1: 0, 2: 200, 3: "", 4: b""},
        {0: 2},
        {0: 2, 1: b""},
        {0: 2, 1: "hello"},
        {0: 2, 1: b"hello", 2: b""},
    ],
    ids=repr,
)
def test_what_is_no_frame_is_refused(value: Any) -> None:
    with pytest.raises(Invalid):
        wire.decode(value)


def test_sizes_are_bounded_on_both_sides() -> None:
    """Seen to fail where a statement of just under a mebibyte could be received, but not be sent."""
    largest = StatementFrame(UINT64, bytes(wire.MAX_STATEMENT))
    assert read(payload(largest)) == largest
    assert read(payload(HelloFrame(bytes(wire.MAX_HELLO)))) == HelloFrame(bytes(wire.MAX_HELLO))
    for too_large in (StatementFrame(0, bytes(wire.MAX_STATEMENT + 1)), HelloFrame(bytes(wire.MAX_HELLO + 1))):
        with pytest.raises(TooLarge):
            wire.encode(too_large)
    too_much: list[dict[int, Value]] = [
        {0: 0, 1: 0, 2: bytes(wire.MAX_STATEMENT + 1)},
        {0: 2, 1: bytes(wire.MAX_HELLO + 1)},
    ]
    for value in too_much:
        with pytest.raises(TooLarge):
            wire.decode(value)
    with pytest.raises(Invalid):
        wire.encode(HelloFrame(b""))


def test_no_repr_shows_content() -> None:
    assert repr(StatementFrame(3, b"secret")) == "StatementFrame(3, 6 bytes)"
    assert repr(HelloFrame(b"secret")) == "HelloFrame(6 bytes)"
    assert repr(AcknowledgementFrame(3, Acknowledgement(403, "secret"))) == "AcknowledgementFrame(3, 403)"


# --- the document


def rules() -> str:
    """The CDDL of the courier in docs/protocol.md."""
    blocks: list[str] = re.findall(r"^```cddl\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if block.startswith("courier-frame = ")]
    return found


RULES = {0: "statement-frame", 1: "acknowledgement-frame", 2: "hello-frame"}


def fits(raw: bytes) -> bool:
    pycddl: Any = pytest.importorskip("pycddl", reason="no build of pycddl for this machine")
    # pycddl 0.6 applies a range of a map's keys to the map itself: keys from 16 on are left to our own tests.
    known = rules().replace(", * later-key => any", "")
    decoded: Any = codec.decode(raw, max_bytes=wire.MAX_FRAME)
    root = RULES.get(decoded[0], "later-frame")  # in a choice of maps it takes the keys of any for those of all
    try:
        pycddl.Schema(f"root = {root}\n{known}").validate_cbor(raw)
    except pycddl.ValidationError:
        return False
    return True


@given(own_frames)
def test_frames_fit_the_document(content: wire.OwnFrame) -> None:
    assert fits(payload(content))


def test_the_document_has_room_for_keys_that_are_ignored() -> None:
    assert rules().count(", * later-key => any }") == 3
    assert f"later-key = {wire.FIRST_IGNORED_KEY}..{UINT64}  ;" in rules()


@pytest.mark.parametrize(
    "value",
    [
        {0: 0, 1: 0},
        {0: 0, 1: 0, 2: b"", 3: 0},
        {0: 0, 1: -1, 2: b""},
        {0: 1, 1: 0, 2: 99, 3: "", 4: ""},
        {0: 1, 1: 0, 2: 200, 3: "", 4: "", 15: 0},
        {0: 2, 1: b""},
        {0: 2, 1: bytes(wire.MAX_HELLO + 1)},
        {0: 2, 1: b"hello", 2: b""},
        {0: -1},
    ],
    ids=repr,
)
def test_the_document_refuses_what_the_code_refuses(value: Any) -> None:
    with pytest.raises((Invalid, TooLarge)):
        wire.decode(value)
    assert not fits(codec.encode(value))


def test_the_document_has_frames_of_higher_kinds() -> None:
    assert fits(codec.encode({0: 3, 1: "anything", 99: None}))


# --- what codes mean, and how long to wait


@pytest.mark.parametrize("code", [200, 204, 400, 403, 404, 409, 410, 413, 422, 429])
def test_codes_that_end_a_statement(code: int) -> None:
    assert disposition(code) is Disposition.FINAL


@pytest.mark.parametrize("code", [408, 425, 500, 502, 503, 504, 599, 100, 302, 0, -1, 10**9])
def test_codes_after_which_it_is_sent_again(code: int) -> None:
    assert disposition(code) is Disposition.RETRY


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_grow_to_a_minute_and_are_spread(failures: int, jitter: float) -> None:
    wait = CourierLimits().delay(failures, jitter)
    middle = min(60.0, 1.5 ** min(failures - 1, 50))
    assert 0.75 * middle - 1e-9 <= wait <= 1.25 * middle + 1e-9
