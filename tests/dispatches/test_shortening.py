"""Events that are too long: they keep both ends of what they said, the numbers, and their size."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from peer.dispatches.shortening import LEAST_KEPT, MAX_MEMBERS, shortened

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


def test_a_text_is_cut_only_where_that_makes_it_shorter() -> None:
    """The notice takes some forty characters. Here 125 are kept at each end: with 250 the event would be too long."""
    filler = "f" * 10_000
    for length, whole in ((290, True), (291, False)):
        event = msgspec.json.encode({"kind": "x", "text": "a" * length, "one": filler, "two": filler}).decode()
        document = msgspec.json.decode(shortened(event, 1_000))
        assert document["one"] == document["two"] == "f" * 125 + "\n… 9,750 characters left out …\n" + "f" * 125
        assert (document["text"] == "a" * length) == whole


def test_members_are_counted_and_kept_at_both_ends() -> None:
    """Of lists of numbers, which cannot be cut themselves: one is kept whole, of one MAX_MEMBERS."""
    few, many = list(range(100, 100 + MAX_MEMBERS)), list(range(100, 1_000))
    names = {f"name {number}": number for number in many}
    event = msgspec.json.encode({"kind": "x", "few": few, "many": many, "names": names}).decode()
    document = msgspec.json.decode(shortened(event, 2_000))
    half = MAX_MEMBERS // 2
    assert document["few"] == few
    assert document["many"] == [*many[:half], "… 836 left out …", *many[-half:]]
    assert [*document["names"].values()] == [*many[:half], *many[-half:], "836 members left out"]
    assert [*document["names"]][-1] == "…"
    document = msgspec.json.decode(shortened(event, 2_500))
    assert len(document["many"]) == 2_500 // 32 + 1, "as many as there are characters at an end, where those are more"


def test_the_kind_of_an_event_that_cannot_be_cut_is_kept_unless_it_is_part_of_the_trouble() -> None:
    body = {f"{n}": {f"{m}": m for m in range(90)} for n in range(90)}
    for kind, kept in (("k" * 63, "k" * 63), ("k" * 64, "event"), (7, "event"), ({"a": "b"}, "event")):
        event = msgspec.json.encode({"kind": kind, **body}).decode()
        assert msgspec.json.decode(shortened(event, 1_000))["kind"] == kept


def test_an_event_may_have_exactly_the_bytes_that_there_are() -> None:
    def event(padding: int) -> str:
        return msgspec.json.encode({"kind": "x", "text": "a" * 5_000, "padding": "b" * padding}).decode()

    assert shortened(event(0), len(event(0))) == event(0)
    assert max(len(shortened(event(padding), 1_000).encode()) for padding in range(250, 500)) == 1_000


def test_the_least_that_is_kept_is_tried_before_all_is_left_out() -> None:
    event = msgspec.json.encode({"kind": "x", **{f"{number:02}": "b" * 100 for number in range(12)}}).decode()
    document = msgspec.json.decode(shortened(event, 64 * LEAST_KEPT))
    assert document["00"] == "b" * LEAST_KEPT + "\n… 68 characters left out …\n" + "b" * LEAST_KEPT
