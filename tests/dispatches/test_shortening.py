"""Events that are too long: they keep both ends of what they said, the numbers, and their size."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from peer.dispatches.shortening import shortened

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)
leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts | texts.map(lambda text: text * 400)
values = st.recursive(
    leaves | texts.map(lambda text: [text] * 300),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=8,
)


@given(st.dictionaries(texts, values, max_size=6), st.integers(1_000, 5_000))
def test_it_fits_and_stays_an_event(members: dict[str, object], most: int) -> None:
    event = msgspec.json.encode({**members, "kind": "x"}).decode()
    short = shortened(event, most)
    assert len(short.encode()) <= most
    document = msgspec.json.decode(short)
    assert document["kind"] == "x"
    assert (short == event) == (len(event.encode()) <= most)
    if short != event:
        assert document["shortened_from"] == len(event.encode())


def test_a_text_keeps_its_beginning_and_its_end() -> None:
    output = "first line\n" + "x" * 100_000 + "\nlast line: exit 1"
    event = msgspec.json.encode({"kind": "tool_result", "ok": False, "output": output}).decode()
    document = msgspec.json.decode(shortened(event, 2_000))
    assert document["ok"] is False
    head, notice, tail = document["output"].split("…")
    head, tail = head[:-1], tail[1:]
    assert head.startswith("first line") and tail.endswith("last line: exit 1")
    assert int(notice.split()[0].replace(",", "")) + len(head) + len(tail) == len(output)


def test_many_members_keep_both_ends() -> None:
    event = msgspec.json.encode(
        {"kind": "x", "input": {"paths": [f"/a/{number}" for number in range(10_000)]}}
    ).decode()
    paths = msgspec.json.decode(shortened(event, 2_000))["input"]["paths"]
    assert paths[0] == "/a/0" and paths[-1] == "/a/9999"
    assert any("left out" in path for path in paths)


def test_what_cannot_be_cut_says_that_all_is_left_out() -> None:
    event = msgspec.json.encode({"kind": "x", **{f"{n}": {f"{m}": m for m in range(90)} for n in range(90)}}).decode()
    assert msgspec.json.decode(shortened(event, 1_000)) == {
        "kind": "x",
        "left_out": "all",
        "shortened_from": len(event),
    }
