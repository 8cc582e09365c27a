"""The limits as settings: names, ranges, what is refused, and that the documents have all of them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import Invalid
from rendezvous.limits import PARTS, Limits, ranges, read_limits, table
from rendezvous.storage.limits import StorageLimits

DOCUMENT = Path(__file__).parents[2] / "docs/broker.md"
FIXED = {"changes_at_once", "invitation_kept", "presence_kept"}
"""What programs and the protocol depend on."""


def test_every_limit_is_a_setting_or_fixed() -> None:
    assert {field.name for field in fields(Limits)} - ranges().keys() == FIXED


def test_defaults_are_within_their_ranges() -> None:
    usual = Limits()
    assert [
        name for name, allowed in ranges().items() if not allowed.least <= getattr(usual, name) <= allowed.most
    ] == []
    assert all(getattr(usual, part) <= getattr(usual, whole) for whole, part in PARTS)
    assert read_limits([]) == usual


@given(st.data())
def test_what_is_given_is_what_holds(data: st.DataObject) -> None:
    name, allowed = data.draw(st.sampled_from(sorted(ranges().items())))
    number = data.draw(st.integers(allowed.least, allowed.most))
    wholes = {part: whole for whole, part in PARTS}
    more = [f"{wholes[name]}={max(number, getattr(Limits(), wholes[name]))}"] if name in wholes else []
    limits = read_limits([f" {name} = {number:_} ", *more])
    assert getattr(limits, name) == number
    assert isinstance(limits, StorageLimits)


@given(name=st.sampled_from(sorted(ranges())), above=st.booleans())
def test_what_is_out_of_range_is_refused_with_the_range(name: str, above: bool) -> None:
    allowed = ranges()[name]
    with pytest.raises(Invalid, match=name) as refused:
        read_limits([f"{name}={allowed.most + 1 if above else allowed.least - 1}"])
    assert f"from {allowed.least:,} to {allowed.most:,}" in refused.value.fix


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["connections_per_netwrk=5"], "did you mean connections_per_network"),
        (["READ-BURST=5"], "did you mean read_burst"),
        (["changes_at_once=1000"], "did you mean"),
        (["zzz=1"], "the limits are: connections, "),
        (["read_burst"], "write it like"),
        (["read_burst="], "a whole number"),
        (["read_burst=1.5"], "a whole number"),
        (["read_burst=1e3"], "a whole number"),
        (["read_burst=٣"], "a whole number"),
        (["read_burst=" + "9" * 5000], "a whole number"),
        (["read_burst=5", "read_burst=6"], "once"),
        (["connections_per_network=70_000"], "--limit connections=70000"),
    ],
)
def test_what_is_refused(given: list[str], says: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_limits(given)
    assert says in refused.value.fix


def test_a_process_with_few_descriptors_leaves_room_for_what_does_not_wait() -> None:
    limits = Limits().with_connections(20_000)
    assert (limits.connections, limits.requests_at_once, limits.waiting_requests) == (20_000, 20_000, 19_000)
    assert Limits().with_connections(100).waiting_requests == 90
    assert Limits(waiting_requests=5).with_connections(100).waiting_requests == 5


def test_the_document_has_every_limit() -> None:
    rows = list(table())
    section = DOCUMENT.read_text("utf-8").partition("\n## Limits\n")[2].partition("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")][: len(rows)] == rows
