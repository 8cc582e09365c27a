"""What a sender is told: on a redacted edge no word of what a run read, thought or named, and never a secret."""

from __future__ import annotations

from typing import Any

import pytest

from peer.dispatches.redaction import Redactor, redacted

WORD = "walrus"
TOKEN = "ghp_" + "a1B2" * 9
EVENTS: list[dict[str, Any]] = [
    {"kind": "reasoning", "at": 1, "text": f"I read of a {WORD}."},
    {"kind": "tool_call", "at": 2, "call_id": "c", "tool": "Read", "input": {WORD: f"/{WORD}"}, "agent_id": "a"},
    {"kind": "approval", "call_id": "c", "outcome": "denied", "by": "person", "grant": "once", "note": WORD},
    {"kind": "tool_result", "call_id": "c", "ok": True, "output": f"{WORD}é"},
    {"kind": "status", "status": "not_in_view", "detail": f"/project/{WORD}"},
    {"kind": "status", "status": "file_left_out", "detail": WORD, "diff": WORD},
    {"kind": "something_new", "text": WORD},
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: str(event["kind"]))
def test_nothing_that_an_event_contains_is_told_on_a_redacted_edge(event: dict[str, Any]) -> None:
    told = redacted(event)
    assert WORD not in str(told)
    for name in ("kind", "at", "call_id", "tool", "outcome", "by", "grant", "ok", "status"):
        assert told.get(name) == event.get(name)


def test_sizes_are_told() -> None:
    assert redacted(EVENTS[1])["input"] == {"redacted_bytes": 20}
    assert redacted(EVENTS[3])["output"] == "(8 bytes, redacted)"
    assert redacted(EVENTS[0])["text"] == "(19 bytes, redacted)"


@pytest.mark.parametrize("redacts", [True, False])
def test_the_person_is_told_what_was_masked_and_the_sender_sees_that_something_was(redacts: bool) -> None:
    teller = Redactor(redacts=redacts, known=["the-models-key"])
    events = [{**EVENTS[3], "output": f"{TOKEN} {TOKEN}"}, {**EVENTS[0], "text": "the-models-key", "at": 7}]
    shown, told = teller.events(events)
    assert shown[:2] == events, "this machine's own trace is whole"
    assert TOKEN not in str(told) and "the-models-key" not in str(told)
    if redacts:
        assert len(shown) == 2, "nothing left that had to be masked"
        return
    assert told[0]["output"] == "[masked: GitHub token] [masked: GitHub token]"
    note = {"kind": "status", "status": "secrets_masked", "at": 7}
    assert shown[2:] == [{**note, "detail": "2 × GitHub token, 1 × key of this machine; not sent"}]
    assert teller.notes(8) == []
    assert teller.text(f"x {TOKEN}") == "x [masked: GitHub token]"
    (undated,) = teller.notes(None)
    assert undated["status"] == "secrets_masked" and "at" not in undated
    teller.text(TOKEN)
    assert [event["status"] for event in teller.events([])[0]] == ["secrets_masked"]


def test_a_reason_that_may_quote_a_program_stays_on_a_redacted_edge() -> None:
    hidden, open_ = Redactor(redacts=True), Redactor(redacts=False)
    assert WORD not in hidden.reason(f"it ended: {WORD}", status="failed", code=500)
    assert open_.reason(f"it ended: {WORD} {TOKEN}", status="failed", code=500) == (
        f"it ended: {WORD} [masked: GitHub token]"
    )
    for teller in (hidden, open_):
        assert teller.reason("60 minutes are used up", status="failed", code=429) == "60 minutes are used up"
        assert teller.reason("not now", status="cancelled", code=0) == "not now"
        assert teller.reason("", status="failed", code=500) == ""
