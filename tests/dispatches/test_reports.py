"""What a run may report: the form of events and facts, their depth, and how much of them is kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from peer.dispatches import reports
from peer.protocol.content import FileRef
from peer.protocol.errors import DispatchError, Invalid, TooLarge


def nested(depth: int, shape: str = "list", leaf: object = 1) -> Any:
    """Containers, this many inside each other, around a leaf."""
    value: Any = leaf
    for _ in range(depth):
        value = [value] if shape == "list" else {"x": value}
    return value


@pytest.mark.parametrize("shape", ["list", "object"])
@pytest.mark.parametrize("leaf", [1, "text"])
def test_depth_is_counted_in_containers(shape: str, leaf: object) -> None:
    assert not reports.too_deep(nested(reports.MAX_DEPTH, shape, leaf))
    assert reports.too_deep(nested(reports.MAX_DEPTH + 1, shape, leaf))
    assert not reports.too_deep(leaf)
    assert reports.too_deep([1, {"a": "b", "c": nested(reports.MAX_DEPTH)}])


def test_an_event_is_an_object_with_a_kind() -> None:
    reports.check_events([])
    reports.check_events(['{"kind":"x"}', '{"kind":"y","n":[1]}'])
    for bad in (
        "",
        "{",
        "1",
        "[]",
        "null",
        "{}",
        '{"kind":1}',
        msgspec.json.encode({"kind": "x", "d": nested(40)}).decode(),
    ):
        with pytest.raises(Invalid):
            reports.check_events(['{"kind":"x"}', bad])


def test_facts_are_an_object_or_nothing() -> None:
    reports.check_facts("the scope", "")
    reports.check_facts("the scope", '{"tools":["Read"]}')
    for bad in ("[]", "{", "1", msgspec.json.encode({"d": nested(40)}).decode()):
        with pytest.raises(Invalid, match="the scope"):
            reports.check_facts("the scope", bad)


def test_a_trace_is_kept_up_to_its_bound() -> None:
    reports.check_room(reports.MAX_TRACE_BYTES - 10, 10)
    with pytest.raises(TooLarge):
        reports.check_room(reports.MAX_TRACE_BYTES - 10, 11)


def test_returned_files_keep_the_rules_of_sent_ones() -> None:
    reports.check_returned([FileRef("a.txt", 1, bytes(32))])
    with pytest.raises(DispatchError):
        reports.check_returned([FileRef("../a.txt", 1, bytes(32))])
