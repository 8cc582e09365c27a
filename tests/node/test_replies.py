"""Trees come from a program that may do what it likes: no answer of it is more than the reply as it was written."""

from __future__ import annotations

import sys

import pytest

from peer.node import replies
from peer.node.replies import MAX_KEPT, Replies
from sandbox.replies.tree import MAX_TEXT


def instead(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(replies, "REPLIES", (sys.executable, "-c", f"import os, sys\n{program}"))


async def test_a_reply_is_read_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Replies()
    found = await made.tree("# a")
    assert found == {"parts": [{"kind": "heading", "number": 1, "parts": [{"kind": "text", "text": "a"}]}]}
    instead(monkeypatch, "sys.exit(1)")
    assert await made.tree("# a") == found
    assert await made.tree("# b") is None


async def test_few_answers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "REPLIES", ("/nonexistent",))
    made = Replies()
    for number in range(MAX_KEPT + 1):
        assert await made.tree(f"# {number}") is None
    assert len(made._known) == MAX_KEPT


async def test_what_is_plain_or_too_long_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, "print('{\"parts\": []}')")
    made = Replies()
    assert await made.tree("It is done. 3 of 4 tests pass (1 is left).\nSee a-b.") is None
    assert await made.tree("#" * (MAX_TEXT + 1)) is None
    assert await made.tree("# a") == {"parts": []}


@pytest.mark.parametrize(
    "answer",
    [
        '{"parts": [{"kind": "script", "text": "x"}]}',
        '{"parts": [{"kind": "text", "onclick": "x"}]}',
        pytest.param('{"parts": ' + '[{"kind": "quote", "parts": ' * 5_000, marks=pytest.mark.long),
        pytest.param("{", marks=pytest.mark.long),
    ],
)
async def test_an_answer_of_anything_else_is_none(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    instead(monkeypatch, f"print({answer!r})")
    assert await Replies().tree("# a") is None
