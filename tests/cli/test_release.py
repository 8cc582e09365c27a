"""`release`, and the question about a held result at the end of a followed run: shown, asked and sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.cli.documents import FIRST, FORBIDDEN, HOSTILE
from tests.cli.fake_api import Asked, FakeApi
from tests.cli.test_terminal import Run, plain, terminal

DISPATCH = f"/v1/dispatches/{FIRST}"
HELD: dict[str, Any] = {
    "status": "completed",
    "at": "2026-11-29T08:00:00.000Z",
    "reply": "the answer",
    "files": [{"name": "changes.diff", "size": 9, "sha256": "0" * 64, "ready": True, "withheld": False}],
    "usage": {},
    "counts": {},
    "sandbox": None,
    "scope": None,
    "reason": None,
    "fix": None,
    "events": 3,
}
EVENTS = [{"seq": number, "attempt": 1, "kind": "reasoning", "text": f"thought {number}"} for number in (1, 2, 3)]


@pytest.fixture
def held(api: FakeApi) -> FakeApi:
    def page(asked: Asked) -> dict[str, Any]:
        after = int(asked.query.get("after", "0"))
        more = after < 2
        return {"dispatch_id": FIRST, "events": EVENTS[after : after + 2], "more": more, "next": 2 if more else None}

    Run(api)
    before = api.answers["GET", DISPATCH]
    assert callable(before)
    api[f"GET {DISPATCH}"] = lambda request: {**before(request), "status": "held", "result": None, "held": HELD}
    api[f"GET {DISPATCH}/held"] = page
    api[f"POST {DISPATCH}/release"] = lambda asked: {
        "dispatch_id": FIRST, "status": "completed", "ok": True, "without": asked.body["without"]
    }  # fmt: skip
    api[f"POST {DISPATCH}/decline"] = {"dispatch_id": FIRST, "decision": "declined", "ok": True}
    return api


def posted(api: FakeApi) -> list[tuple[str, Any]]:
    asked = [(each.path.rsplit("/", 1)[1], each.body) for each in api.asked if each.method == "POST"]
    return [each for each in asked if each[0] != "accept"]


def test_all_that_would_be_sent_is_shown_and_nothing_is_sent(cli: Cli, held: FakeApi) -> None:
    said = cli("release", FIRST, "--show")
    for words in ("would be sent to", "thought 1", "thought 3", "the answer", "changes.diff"):
        assert words in said.out, words
    document = json.loads(cli("release", FIRST, "--show", "--json").out)
    assert document["events"] == EVENTS and document["reply"] == "the answer"
    assert posted(held) == []


def test_what_is_asked_for_is_sent(cli: Cli, held: FakeApi) -> None:
    assert "released the result" in cli("release", FIRST).out
    assert "without its trace and its files" in cli("release", FIRST, "--without", "trace", "--without", "files").out
    assert [body["without"] for _, body in posted(held)] == [[], ["trace", "files"]]
    said = cli("status", FIRST)
    assert "does not get it until you release it" in said.out and "the answer" in said.out
    assert "dispatch release" in said.err


def test_words_of_a_held_result_are_shown_and_never_obeyed(cli: Cli, api: FakeApi, held: FakeApi) -> None:
    hostile = {**HELD, "reply": HOSTILE, "reason": HOSTILE, "files": [{**HELD["files"][0], "name": HOSTILE}]}
    before = api.answers["GET", DISPATCH]
    assert callable(before)
    api[f"GET {DISPATCH}"] = lambda request: {**before(request), "held": hostile}
    api[f"GET {DISPATCH}/held"] = {
        "dispatch_id": FIRST, "events": [{**EVENTS[0], "text": HOSTILE}], "more": False, "next": None
    }  # fmt: skip
    said = cli("release", FIRST, "--show").out
    assert not [each for each in FORBIDDEN if each in said]


@pytest.mark.parametrize(
    ("keys", "sent"), [("1", [("release", {"without": []})]), ("3", []), ("24", [("decline", {})])]
)
def test_a_followed_run_asks_what_becomes_of_its_result(
    cli: Cli, held: FakeApi, keys: str, sent: list[tuple[str, Any]]
) -> None:
    with terminal("accept", FIRST) as screen:
        for key in keys:
            assert "1  Send it to" in plain(screen.until("What should happen to the result?"))
            screen.until("] ")
            screen.type(f"{key}\n")
        assert screen.end() == 0
    assert posted(held) == sent
