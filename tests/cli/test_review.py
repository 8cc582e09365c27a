"""`changes`, `apply`, `discard`, `undo`, and the question at the end of a followed run: shown, asked and sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.cli.documents import FIRST, FORBIDDEN, HOSTILE
from tests.cli.fake_api import Asked, FakeApi
from tests.cli.test_terminal import Run, plain, terminal

CHANGES = f"/v1/dispatches/{FIRST}/changes"


def entry(number: int, path: str, change: str = "changed", **more: Any) -> dict[str, Any]:
    whole = {
        "number": number,
        "path": path,
        "folder": "/home/bob/shop",
        "change": change,
        "kind": "file",
        "size": 1_234,
        "count": 1,
        "executable": False,
        "target": None,
        "renamed_from": None,
        "marks": [],
        "conflict": None,
        "never": None,
        "landed": False,
    }
    return {**whole, **more}


ENTRIES = [
    entry(0, "src/app.py"),
    entry(1, "conftest.py", "added", marks=["pytest loads it by itself"]),
    entry(2, "old.txt", "deleted"),
    entry(3, ".git", "dropped", kind="folder", count=7, never="a repository's own files are never applied"),
    entry(4, "mine.md", conflict="you changed it meanwhile"),
    entry(5, "new name.md", "renamed", renamed_from="name.md"),
]


def listed(**more: Any) -> dict[str, Any]:
    summary = {
        "dispatch_id": FIRST,
        "attempt": 1,
        "digest": "d" * 64,
        "state": "waiting",
        "landed": "waiting",
        "in_place": 0,
        "in_all": 5,
        "waits": 5,
        "marked": 1,
        "conflicts": 1,
        "bytes": 9,
        "folders": [{"number": 0, "folder": "/home/bob/shop", "view": "overlay"}],
        "incomplete": [],
        "network": [{"host": "code.example.org", "use": "2 connections, 17 bytes sent, 1.2 MB received"}],
        "entries": ENTRIES,
        "more": False,
        "next": None,
    }
    return {**summary, **more}


def outcome(**more: Any) -> dict[str, Any]:
    done = {"dispatch_id": FIRST, "attempt": 1, "ok": True, "landed": ["src/app.py"], "refused": [], "left": []}
    return {**done, "irreversible": [], **more}


@pytest.fixture
def reviewed(api: FakeApi) -> FakeApi:
    api[f"GET {CHANGES}"] = listed()
    for one in ENTRIES:
        api[f"GET {CHANGES}/{one['number']}"] = {**one, "diff": f"--- a/{one['path']}\n+++ b/{one['path']}\n+of it\n"}
    return api


def test_the_list_has_marked_ones_first_and_says_why(cli: Cli, reviewed: FakeApi) -> None:
    said = cli("changes", FIRST).out
    assert "5 wait (1 marked, 1 in conflict)" in said
    assert said.index("conftest.py") < said.index("src/app.py")
    for words in (
        "marked: pytest loads it by itself",
        "conflict: you changed it meanwhile",
        "a repository's own files are never applied",
        "renamed, from name.md",
        "over the network: code.example.org: 2 connections, 17 bytes sent, 1.2 MB received",
        "(deleted)",
        "7 files",
    ):
        assert words in said, words
    assert "+of it" not in said
    assert said.count("+of it") < cli("changes", FIRST, "--diff").out.count("+of it") == len(ENTRIES)
    one = cli("changes", FIRST, "--file", "/home/bob/shop/conftest.py").out
    assert "conftest.py" in one and "src/app.py" not in one and "+of it" in one
    assert json.loads(cli("changes", FIRST, "--json").out)["entries"] == ENTRIES
    assert "this run has no change of x" in cli("changes", FIRST, "--file", "x").err


@pytest.mark.parametrize(
    ("standing", "said"),
    [
        ({"landed": "part", "in_place": 2, "waits": 3}, "2 of 5 applied, 3 wait (1 marked, 1 in conflict)"),
        ({"landed": "part", "in_place": 2, "waits": 0, "marked": 0, "conflicts": 0}, "2 of 5 applied\n"),
        ({"landed": "all", "in_place": 5, "waits": 0, "marked": 0, "conflicts": 0}, "5 of 5 applied\n"),
        ({"landed": "none", "waits": 0, "marked": 0, "conflicts": 0}, "none applied\n"),
    ],
)
def test_how_much_is_in_place_is_said_first(cli: Cli, reviewed: FakeApi, standing: dict[str, Any], said: str) -> None:
    reviewed[f"GET {CHANGES}"] = listed(**standing)
    assert f"what run 1 changed: {said}" in cli("changes", FIRST).out


COMMITS = entry(
    6,
    ".git/refs/heads",
    "commits",
    kind="folder",
    count=2,
    marks=["commits are code"],
    branches=[{"name": "a;b", "ref": f"dispatch/{FIRST}/branch-1", "commit": "1" * 40}],
)


def test_commits_say_where_they_come_to_and_how_they_are_merged(cli: Cli, api: FakeApi) -> None:
    api[f"GET {CHANGES}"] = listed(entries=[COMMITS])
    said = cli("changes", FIRST).out
    assert "“.git/refs/heads”  (2 commits, 1,234 bytes)" in said and "files" not in said
    assert f"branch “a;b”: becomes dispatch/{FIRST}/branch-1" in said
    command = f"git -C /home/bob/shop merge dispatch/{FIRST}/branch-1"
    api[f"POST /v1/dispatches/{FIRST}/apply"] = outcome(landed=[".git/refs/heads"], merge=[command])
    assert f"to merge the commits into your current branch: `{command}`" in cli("apply", FIRST, ".git").err
    api[f"POST /v1/dispatches/{FIRST}/apply"] = outcome(landed=[".git/refs/heads"], merge=[command], dry_run=True)
    assert command not in cli("apply", FIRST, ".git", "--dry-run").err


def test_all_pages_are_read(cli: Cli, api: FakeApi) -> None:
    def page(asked: Asked) -> dict[str, Any]:
        after = int(asked.query.get("after", "0"))
        more = after < 4
        return listed(entries=ENTRIES[after : after + 2], more=more, next=after + 2 if more else None)

    api[f"GET {CHANGES}"] = page
    assert json.loads(cli("changes", FIRST, "--json").out)["entries"] == ENTRIES


def test_names_of_a_run_are_shown_and_never_obeyed(cli: Cli, api: FakeApi) -> None:
    hostile = entry(
        0,
        HOSTILE,
        branches=[{"name": HOSTILE, "ref": HOSTILE, "commit": ""}],
        renamed_from=HOSTILE,
        target=HOSTILE,
        marks=[HOSTILE],
        conflict=HOSTILE,
        never=HOSTILE,
    )
    api[f"GET {CHANGES}"] = listed(entries=[hostile], incomplete=[HOSTILE])
    api[f"POST /v1/dispatches/{FIRST}/apply"] = outcome(
        ok=False, landed=[HOSTILE], refused=[{"number": 0, "path": HOSTILE, "reason": HOSTILE}]
    )
    api[f"POST /v1/dispatches/{FIRST}/undo"] = {"ok": False, "undone": [HOSTILE], "refused": []}
    said = cli("changes", FIRST).out + cli("apply", FIRST, "--all").out + cli("undo", FIRST).out
    assert not [each for each in FORBIDDEN if each in said]


def test_what_is_asked_for_is_sent(cli: Cli, api: FakeApi) -> None:
    api[f"POST /v1/dispatches/{FIRST}/apply"] = outcome(left=["b"])
    api[f"POST /v1/dispatches/{FIRST}/discard"] = {"dispatch_id": FIRST, "attempt": 2, "ok": True}
    api[f"POST /v1/dispatches/{FIRST}/undo"] = {"dispatch_id": FIRST, "ok": True, "undone": ["a"], "refused": []}
    said = cli("apply", FIRST, "--all", "--marked")
    assert "applied: src/app.py" in said.out and "1 more waits" in said.err
    assert "would be applied" in cli("apply", FIRST, "src", "b", "--dry-run", "--run", "3").out
    assert "discarded" in cli("discard", FIRST, "--run", "2").out
    assert "undone: a" in cli("undo", FIRST).out
    none: dict[str, object] = {"attempt": None, "paths": [], "all": False, "marked": False, "dry_run": False}
    assert [asked.body for asked in api.asked if asked.method == "POST"] == [
        {**none, "all": True, "marked": True},
        {**none, "attempt": 3, "paths": ["src", "b"], "dry_run": True},
        {"attempt": 2},
        {},
    ]


def test_what_stands_in_the_way_is_said_and_is_no_success(cli: Cli, api: FakeApi) -> None:
    refused = [{"number": 0, "path": "src/app.py", "reason": "you changed it meanwhile"}]
    api[f"POST /v1/dispatches/{FIRST}/apply"] = outcome(ok=False, landed=[], refused=refused)
    api[f"POST /v1/dispatches/{FIRST}/undo"] = {"ok": False, "undone": [], "refused": refused}
    said = cli("apply", FIRST, "--all")
    assert "cannot be applied: src/app.py: you changed it meanwhile" in said.out
    assert "nothing was changed" in said.out
    assert "stays: src/app.py: you changed it meanwhile" in cli("undo", FIRST).out


ALL = {"attempt": 1, "digest": "d" * 64, "all": True}


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        ("1", [("apply", {**ALL, "dry_run": True}), ("apply", ALL)]),
        ("3", []),
        ("4", [("discard", {"attempt": 1})]),
        ("24", [("discard", {"attempt": 1})]),
    ],
)
def test_a_followed_run_asks_once_at_its_end(
    cli: Cli, reviewed: FakeApi, keys: str, asked: list[tuple[str, dict[str, Any]]]
) -> None:
    Run(reviewed)
    ended = reviewed.answers["GET", f"/v1/dispatches/{FIRST}"]
    assert callable(ended)
    reviewed[f"GET /v1/dispatches/{FIRST}"] = lambda request: {
        **ended(request),
        "landed": "waiting",
        "changes": [
            {"attempt": 1, "landed": "part", "in_place": 3, "in_all": 5, "waits": 2}
            if [each for each in reviewed.asked if each.path.endswith(("/apply", "/discard"))]
            else {"attempt": 1, "landed": "waiting", "in_place": 0, "in_all": 5, "waits": 5}
        ],
    }
    reviewed[f"POST /v1/dispatches/{FIRST}/apply"] = outcome()
    reviewed[f"POST /v1/dispatches/{FIRST}/discard"] = {"dispatch_id": FIRST, "attempt": 1, "ok": True}
    with terminal("accept", FIRST) as screen:
        for key in keys:
            shown = plain(screen.until("What should happen to these changes?"))
            assert "conftest.py" in shown and "1  Apply the unmarked changes" in shown
            screen.until("] ")
            screen.type(f"{key}\n")
        left = "3 of 5 applied, 2 wait" if asked else "5 wait"
        assert f"changes in your folders: {left}" in plain(screen.until("to see them"))
        assert screen.end() == 0
    decisions = [
        (each.path.rsplit("/", 1)[1], each.body)
        for each in reviewed.asked
        if each.method == "POST" and not each.path.endswith("/accept")
    ]
    assert decisions == asked


@pytest.mark.parametrize(("key", "applied"), [("n", [True]), ("y", [True, False])])
def test_what_cannot_be_taken_back_is_said_before_it_is_put_in_place(
    cli: Cli, api: FakeApi, key: str, applied: list[bool]
) -> None:
    api[f"POST /v1/dispatches/{FIRST}/apply"] = outcome(irreversible=["src/app.py"])
    words = "cannot be undone: src/app.py"
    assert words in cli("apply", FIRST, "--all", "--dry-run").out
    assert words in cli("apply", FIRST, "--all").out
    before = len(api.asked)
    with terminal("apply", FIRST, "--all") as screen:
        shown = plain(screen.until("Apply it anyway?"))
        assert words in shown and "applied: " not in shown
        screen.type(f"{key}\n")
        assert screen.end() == (0 if key == "y" else 1)
    assert [each.body["dry_run"] for each in api.asked[before:] if each.method == "POST"] == applied
