"""Every command against a fake of the loopback API: what it asks, what people and programs read, how it fails."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from peer.trust.menu import FOLDERS
from tests.cli.conftest import Cli
from tests.cli.documents import (
    ADDRESS,
    FIRST,
    FORBIDDEN,
    HOSTILE,
    SECOND,
    THIRD,
    TOKEN,
    approval,
    document,
    edge,
    every_text_hostile,
    me,
    offer,
    result,
    row,
)
from tests.cli.fake_api import Asked, FakeApi, Stream, page_of_calls

DECIDED = {"dispatch_id": FIRST, "ok": True}
ANSWERED = {"dispatch_id": FIRST, "request_id": "r-1", "ok": True}
ENDED = document(status="completed", result=result())


class Case(NamedTuple):
    """A command line; what the API answers, by route; the document printed; words that a person must read."""

    args: list[str]
    routes: dict[str, Any]
    printed: Any
    words: list[str]
    needs: str = "D"  # D: the daemon; B: the broker too; S: the store is enough


def case(line: str, routes: dict[str, Any], printed: Any, *words: str, needs: str = "D") -> Case:
    return Case(line.split(), routes, printed, list(words), needs)


def one(route: str, answer: Any, line: str, *words: str, needs: str = "D") -> Case:
    return case(line, {route: answer}, answer, *words, needs=needs)


BOXES = {"dispatches": [row(), row(SECOND, status="running")]}
INVITATIONS = {
    "sent": [{"token": TOKEN, "to": "carol@example.org", "status": "open", "expires": "2026-11-29T12:00:00.000Z"}],
    "received": [
        {"token": TOKEN, "from": "alice@example.org", "fingerprint": "tulip-anvil", "verified": False, "status": "open"}
    ],
}
GRANTED = {"status": "accepted", "trust_link_id": TOKEN, "peer": "alice@example.org", "scopes": edge()["scopes"]}
SENT = {"dispatch_id": FIRST, "status": "queued", "expires_at": "2026-11-22T13:00:00.000Z", "peer_online": False}

CASES = {
    "whoami": one("GET /v1/whoami", me(), "whoami", "bob@example.org", "rose-hammer 5678", "bwrap", needs="S"),
    "contacts": one(
        "GET /v1/contacts", {"trust": [edge()]}, "contacts", "alice@example.org (ally)", "Read, Glob, Grep", needs="S"
    ),
    "contacts add-address": one(
        "POST /v1/contacts/alice@example.org/addresses",
        {"peer": "alice@example.org", "address": "/ip4/192.0.2.7/tcp/4001", "devices": ["12D3KooWAlice"]},
        "contacts add-address alice@example.org /ip4/192.0.2.7/tcp/4001",
        "alice@example.org is tried at /ip4/192.0.2.7/tcp/4001 first",
    ),
    "contacts remove-address": one(
        "DELETE /v1/contacts/alice@example.org/addresses",
        {"peer": "alice@example.org", "address": "/ip4/192.0.2.7/tcp/4001", "devices": ["12D3KooWAlice"]},
        "contacts remove-address alice@example.org /ip4/192.0.2.7/tcp/4001",
        "no longer tried",
    ),
    "alias": one(
        "PATCH /v1/contacts/alice@example.org",
        {"peer": "alice@example.org", "alias": "ally"},
        "alias alice@example.org ally",
        "alice@example.org is called ally here",
    ),
    "invite": one(
        "POST /v1/invitations",
        {"token": TOKEN, "to": "carol@example.org", "emailed": False, "link": "dispatch:invitation:x"},
        "invite carol@example.org",
        "no mail was sent",
        "dispatch:invitation:x",
        needs="B",
    ),
    "invitations": one("GET /v1/invitations", INVITATIONS, "invitations", TOKEN[-8:], "tulip-anvil", needs="S"),
    "invitations withdraw": one(
        f"DELETE /v1/invitations/{TOKEN}",
        {"status": "withdrawn"},
        f"invitations withdraw {TOKEN}",
        "withdrawn",
        needs="B",
    ),
    "accept-invitation": one(
        "POST /v1/invitations/accept",
        GRANTED,
        f"accept-invitation {TOKEN} --tools Read,Glob",
        "alice@example.org may now dispatch to you: Read, Glob, Grep",
    ),
    "decline-invitation": one(
        "POST /v1/invitations/decline",
        {"status": "declined"},
        f"decline-invitation {TOKEN}",
        "nothing was granted",
        needs="B",
    ),
    "block": one(
        "POST /v1/block",
        {"status": "blocked", "peer": "eve@example.org"},
        "block eve@example.org",
        "blocked eve@example.org",
        needs="B",
    ),
    "trust show": one(
        "GET /v1/trust/alice",
        edge(),
        "trust show alice",
        "Write(/home/bob/shop/x)",
        "with /home/bob/wt, shell commands also see its repository /home/bob/main/.git, with all of its history",
        # Seen to fail with "budget output_bytes 104857600", where --output-mb takes 100.
        "60 minutes, 100 turns, 5 USD, 100 MB returned",
        "npx server-github",
        "issue_read",
        "not started yet",
    ),
    "trust edit": case(
        "trust edit alice --max-per-day 5",
        {"GET /v1/trust/alice": edge(), "PATCH /v1/trust/alice": edge(status="paused")},
        edge(status="paused"),
        "paused",
    ),
    "trust pause": one("POST /v1/trust/alice/pause", {"status": "paused"}, "trust pause alice", "paused"),
    "trust resume": one("POST /v1/trust/alice/resume", {"status": "active"}, "trust resume alice", "resumed"),
    "trust revoke": one("POST /v1/trust/alice/revoke", {"status": "revoked"}, "trust revoke alice", "revoked"),
    "trust forget-key": one(
        "DELETE /v1/trust/alice@example.org/key",
        {"status": "forgotten", "peer": "alice@example.org"},
        "trust forget-key alice@example.org --yes",
        "forgotten: nothing under that key of alice@example.org",
    ),
    "send": one("POST /v1/dispatches", SENT, "send bob@example.org task", "abcd5555", "not online", needs="B"),
    "sent": one("GET /v1/dispatches", BOXES, "sent", "abcd5555", "running", needs="S"),
    "inbox": one("GET /v1/dispatches", BOXES, "inbox", "abcd5555", "pending", needs="S"),
    "status": one(
        f"GET /v1/dispatches/{FIRST}",
        ENDED,
        f"status {FIRST}",
        "alice@example.org",
        "Find why the build fails",
        "I look at the Makefile.",
        "allowed by person, once: “fine”",
        "is a space.",
        "3 turns · $0.02 · 4 s",
        needs="S",
    ),
    "cancel": one(
        f"POST /v1/dispatches/{FIRST}/cancel",
        {**DECIDED, "status": "cancelled"},
        f"cancel {FIRST}",
        "cancelled abcd5555",
    ),
    "accept": case(
        f"accept {FIRST}",
        {
            f"GET /v1/dispatches/{FIRST}": document(),
            f"POST /v1/dispatches/{FIRST}/accept": {
                **DECIDED,
                "decision": "accepted",
                "approval": "manual",
                "cwd": "/w",
            },
        },
        {**DECIDED, "decision": "accepted", "approval": "manual", "cwd": "/w"},
        "accepted abcd5555 in /w",
    ),
    "decline": one(
        f"POST /v1/dispatches/{FIRST}/decline", {**DECIDED, "decision": "declined"}, f"decline {FIRST}", "declined"
    ),
    "approvals": case(
        "approvals",
        {"GET /v1/approvals": page_of_calls(approval())},
        [approval()],
        "Rewrite notes.md, +1 −1",
        "request r-1, 1 min 58 s left",
        "+one",
        "what this returns goes to alice@example.org",
        "Write(/home/bob/shop/notes.md)",
    ),
    "approve": case(
        f"approve {FIRST} r-1",
        {
            "GET /v1/approvals": page_of_calls(approval()),
            f"POST /v1/approvals/{FIRST}/r-1": {**ANSWERED, "decision": "allow"},
        },
        {**ANSWERED, "decision": "allow"},
        "allowed (once): Rewrite notes.md, +1 −1 (request r-1)",
    ),
    "deny": case(
        f"deny {FIRST} r-1",
        {
            "GET /v1/approvals": page_of_calls(approval()),
            f"POST /v1/approvals/{FIRST}/r-1": {**ANSWERED, "decision": "deny"},
        },
        {**ANSWERED, "decision": "deny"},
        "denied: Rewrite notes.md, +1 −1 (request r-1)",
    ),
}


def prepare(api: FakeApi, given: Case) -> None:
    for route, answer in given.routes.items():
        api[route] = answer


@pytest.mark.parametrize("name", CASES)
def test_json_is_one_document_on_either_side_and_nothing_else(cli: Cli, api: FakeApi, name: str) -> None:
    prepare(api, CASES[name])
    before = cli("--json", *CASES[name].args)
    after = cli(*CASES[name].args, "--json")
    assert before.document == after.document == CASES[name].printed
    assert (before.code, after.code) == (0, 0)
    assert before.out == after.out
    assert before.out.isascii()
    if name != "accept":  # which warns that calls will wait
        assert before.err == after.err == ""


@pytest.mark.parametrize("name", CASES)
def test_people_read_what_matters(cli: Cli, api: FakeApi, name: str) -> None:
    prepare(api, CASES[name])
    outcome = cli(*CASES[name].args)
    assert outcome.code == 0, outcome.err
    for word in CASES[name].words:
        assert word in outcome.out
    assert "\x1b" not in outcome.out + outcome.err


@pytest.mark.parametrize("name", CASES)
def test_what_others_wrote_is_harmless_in_every_field(cli: Cli, api: FakeApi, name: str) -> None:
    keep = ("dispatch_id", "request_id", "kind", "direction", "at")
    for route, answer in CASES[name].routes.items():
        api[route] = every_text_hostile(answer, keep)
    outcome = cli(*CASES[name].args)
    assert outcome.code == 0, outcome.err
    said = outcome.out + outcome.err
    assert [hex(ord(char)) for char in FORBIDDEN if char in said] == []
    assert not any(line.startswith("error: fake") for line in said.splitlines())
    if name in ("whoami", "contacts", "status", "inbox", "approvals", "trust show", "invitations"):
        assert "␛[2J" in outcome.out
    as_json = cli(*CASES[name].args, "--json")
    assert as_json.out.isascii()
    assert json.loads(as_json.out)


@pytest.mark.parametrize("name", CASES)
def test_an_error_of_the_daemon_is_said_with_its_fix(cli: Cli, api: FakeApi, name: str) -> None:
    for route in CASES[name].routes:
        api.fails(route, 429, f"too many {HOSTILE}", "wait until 14:00")
    outcome = cli(*CASES[name].args)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("error 429: too many ")
    assert outcome.err.endswith("fix: wait until 14:00\n")
    assert len(outcome.err.splitlines()) == 2
    as_json = cli(*CASES[name].args, "--json")
    assert as_json.code == 1
    assert as_json.document == {"error": {"code": 429, "message": f"too many {HOSTILE}", "fix": "wait until 14:00"}}


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].needs == "D"])
def test_without_a_daemon_it_says_how_to_start_one(cli: Cli, name: str) -> None:
    cli.configure(broker="https://b.example", token="t")
    outcome = cli(*CASES[name].args, "--json")
    assert outcome.code == 1
    error = outcome.document["error"]
    assert (error["code"], error["fix"]) == (503, "start it: `dispatch-daemon`")
    assert error["message"] == f"no local daemon token at {cli.folder.local_token}"
    cli.folder.write_private(cli.folder.local_token, b"t")
    again = cli(*CASES[name].args)
    assert again.err.startswith("error 503: the local daemon isn't reachable on 127.0.0.1:8001\nfix: start it")


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].needs in "BS"])
def test_on_a_fresh_machine_signing_in_comes_first(cli: Cli, name: str) -> None:
    outcome = cli("--json", *CASES[name].args)
    assert outcome.code == 1
    assert outcome.document["error"]["code"] == 401
    assert "no token" in outcome.document["error"]["message"]
    assert outcome.document["error"]["fix"] == "run `dispatch setup`, or `dispatch login --broker URL`"
    assert not cli.folder.path.exists()


def test_on_a_fresh_machine_what_needs_the_daemon_says_what_starts_it(cli: Cli) -> None:
    """Seen to fail with a program that would only have served the page for setting up."""
    error = cli("open", "--json").document["error"]
    assert (error["code"], error["fix"]) == (503, "run `dispatch setup`, which starts it")


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].needs == "B"])
def test_signed_in_but_no_daemon(cli: Cli, name: str) -> None:
    cli.configure(broker="https://b.example", token="t")
    assert cli("--json", *CASES[name].args).document["error"]["code"] == 503


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].needs == "S"])
def test_without_a_daemon_the_store_is_read(cli: Cli, reader: dict[str, Any], name: str) -> None:
    printed = CASES[name].printed
    reader.update({"whoami": printed, "contacts": printed, "invitations": printed, FIRST: printed})
    if "dispatches" in printed:
        reader.update(received=printed["dispatches"], sent=printed["dispatches"])
    as_json = cli(*CASES[name].args, "--json")
    assert (as_json.code, as_json.document, as_json.err) == (0, printed, "")
    human = cli(*CASES[name].args)
    assert human.code == 0
    assert "the daemon is not running" in human.err


def test_before_the_daemons_first_start_there_is_nothing_yet(cli: Cli) -> None:
    cli.configure(broker="https://b.example", token="t", email="bob@example.org")
    end = {"more": False, "next": None}
    assert cli("inbox", "--json").document == {"dispatches": [], **end}
    assert cli("sent", "--json").document == {"dispatches": [], **end}
    assert cli("contacts", "--json").document == {"trust": [], "blocked": [], **end}
    assert cli("invitations", "--json").document == {"sent": [], "received": [], **end}
    for command in ("status", "fetch"):
        for given in (FIRST, "abcd5555"):
            outcome = cli(command, given, "--json")
            assert (outcome.code, outcome.document["error"]["code"]) == (1, 404)
    assert not cli.folder.store.exists()


@pytest.mark.parametrize("args", [["inbox"], ["contacts"]])
def test_signed_out_but_the_store_is_there(cli: Cli, reader: dict[str, Any], args: list[str]) -> None:
    reader.update(received=[], contacts={"trust": []})
    assert cli(*args).code == 0


def test_revoking_without_a_daemon_writes_to_the_store(cli: Cli, reader: dict[str, Any]) -> None:
    outcome = cli("trust", "revoke", "alice@example.org", "--json")
    assert outcome.document == {"status": "revoked", "trust_link_id": "t"}
    assert reader["asked"] == [("revoke", "alice@example.org")]


# Sending


def test_send_carries_all_of_its_flags(cli: Cli, api: FakeApi) -> None:
    api["POST /v1/dispatches"] = SENT
    Path("a.txt").write_text("a")
    Path("notes.md").write_text("known: √")
    outcome = cli(
        *("send", "bob", "-", "--expires", "60", "--meta", "k=v=w", "--meta", "l=", "--file", "a.txt"),
        *("--project", "shop", "--link", "https://x.example", "--deliverable", "done", "--background", "@notes.md"),
        *("--device", "12D3KooX", "--parent", FIRST),
        stdin="verbatim \t√\nsecond line\n",
    )
    assert outcome.code == 0, outcome.err
    assert api.bodies("POST", "/v1/dispatches") == [
        {
            "recipient": "bob",
            "task": "verbatim \t√\nsecond line\n",
            "expires": 60,
            "meta": {"k": "v=w", "l": ""},
            "files": [str(Path.cwd() / "a.txt")],
            "project": "shop",
            "links": ["https://x.example"],
            "deliverable": "done",
            "background": "known: √",
            "device": "12D3KooX",
            "parent": FIRST,
        }
    ]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--expires", "59"], 2, "is not 60 to 86400 seconds"),
        (["--expires", "86401"], 2, "is not 60 to 86400 seconds"),
        (["--expires", "25h"], 2, "is not 60 to 86400 seconds"),
        (["--expires", "1w"], 2, "is not 60 to 86400 seconds"),
        (["--expires", "\u0661h"], 2, "is not a length of time"),
        (["--expires", "-1h"], 2, "is not a length of time"),
        (["--meta", "novalue"], 2, "KEY=VALUE"),
        (["--meta", "a=1", "--meta", "a=2"], 2, "given twice"),
        (["--file", "missing.txt"], 2, "there is no file missing.txt"),
        # Seen to fail with "there is no file ." for a folder that is there.
        # Seen as a bug of dispatch.
        (["--file", "a" * 300], 2, "there is no file aaa"),
        (["--file", "."], 2, ". is not a regular file"),
        (["--file", "/dev/null"], 2, "/dev/null is not a regular file"),
        (["--nonsense"], 2, "there is no option"),
    ],
)
def test_send_refuses_before_it_asks(cli: Cli, api: FakeApi, args: list[str], code: int, said: str) -> None:
    outcome = cli("send", "bob", "task", *args, "--json")
    assert outcome.code == code
    assert outcome.document["error"]["code"] == 422
    assert said in outcome.document["error"]["message"]
    assert outcome.document["error"]["fix"]
    assert api.asked == []


def test_a_file_of_words_that_is_missing(cli: Cli, api: FakeApi) -> None:
    outcome = cli("send", "bob", "task", "--background", "@missing.md", "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (1, 404)
    assert "there is no file missing.md" in outcome.document["error"]["message"] and api.asked == []


@pytest.mark.parametrize("stdin", ["", b"\xff\xfe"])
def test_a_dash_with_nothing_behind_it(cli: Cli, api: FakeApi, stdin: str | bytes) -> None:
    assert cli("send", "bob", "-", stdin=stdin).code == 2
    assert api.asked == []


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("failed", 1), ("declined", 1), ("rejected", 1), ("expired", 1)]
)
def test_send_and_wait(cli: Cli, api: FakeApi, status: str, code: int) -> None:
    api["POST /v1/dispatches"] = SENT
    final = document(status=status, result=result(status=status) if status in ("completed", "failed") else None)
    if final["result"] is None:
        final.update(code=403, message="the edge is gone", fix="invite them again")
    api[f"GET /v1/dispatches/{FIRST}"] = final
    api.streams[FIRST] = [Stream([("trace", document()["events"][1]), ("end", {"status": status})])]
    human = cli("send", "bob", "task", "--wait")
    assert human.code == code
    assert "I look at the Makefile." in human.out
    assert ("is a space." if final["result"] else "the edge is gone") in human.out
    as_json = cli("send", "bob", "task", "--wait", "--json")
    assert (as_json.code, as_json.document) == (code, {**SENT, **final})


@pytest.mark.parametrize(
    "command", [["watch", FIRST], ["send", "bob", "task", "--wait"], ["accept", FIRST, "--follow"]]
)
def test_a_reply_that_was_just_read_is_not_repeated(cli: Cli, api: FakeApi, command: list[str]) -> None:
    """Seen to fail where the result shows every reply, and where it shows none."""
    reply = "It is a space, in line 3.\n\nNothing else."
    api["POST /v1/dispatches"] = SENT
    api[f"POST /v1/dispatches/{FIRST}/accept"] = {**DECIDED, "decision": "accepted", "approval": "auto", "cwd": "/w"}
    api[f"GET /v1/dispatches/{FIRST}"] = document(status="completed", result={**result(), "reply": reply})
    call = {"kind": "tool_call", "tool": "Read", "input": {}, "call_id": "c"}
    for events, times in (
        (("a thought", reply), 1),
        ((reply, "a later thought"), 2),
        ((reply, None), 2),
        (("other words",), 1),
    ):
        said = [{"kind": "reasoning", "text": text} if text is not None else call for text in events]
        api.streams[FIRST] = [Stream([("trace", event) for event in said] + [("end", {"status": "completed"})])]
        outcome = cli(*command)
        assert outcome.out.count("It is a space, in line 3.") == times, events
        assert "result: completed" in outcome.out


@pytest.mark.parametrize(
    ("given", "seconds"), [("60", 60), ("86400", 86400), ("30m", 1800), ("1h", 3600), ("1D", 86400)]
)
def test_a_lifetime_may_be_given_with_its_unit(cli: Cli, api: FakeApi, given: str, seconds: int) -> None:
    """Seen to fail with whole numbers alone."""
    api["POST /v1/dispatches"] = SENT
    assert cli("send", "bob", "task", "--expires", given).code == 0
    assert api.bodies("POST", "/v1/dispatches")[0]["expires"] == seconds


def test_how_long_somebody_who_is_online_has(cli: Cli, api: FakeApi) -> None:
    """Seen to fail with "unless they accept it, it expires in 59 min, 2026-…"."""
    expires = datetime.now(UTC) + timedelta(minutes=59, seconds=30)
    api["POST /v1/dispatches"] = {**SENT, "peer_online": True, "expires_at": expires.isoformat()}
    assert f"they have until {expires:%Y-%m-%d %H:%M:%S} UTC (59 min) to accept it" in cli("send", "bob", "x").out


# Looking


def test_the_lists_ask_for_what_was_said_and_page(cli: Cli, api: FakeApi) -> None:
    def page(asked: Asked) -> Any:
        if "before" in asked.query:
            return {"dispatches": [row(THIRD)], "more": False, "next": None}
        return {"dispatches": [row(FIRST), row(SECOND)], "more": True, "next": SECOND}

    api["GET /v1/dispatches"] = page
    outcome = cli("inbox", "--status", "pending", "--limit", "2")
    assert api.asked[-1].query == {"direction": "received", "status": "pending", "limit": "2"}
    assert "--before aaaa7777" in outcome.err
    outcome = cli("sent", "--before", SECOND)
    assert api.asked[-1].query == {"direction": "sent", "limit": "50", "before": SECOND}
    assert "aaaa7777" in outcome.out
    assert cli("inbox", "--status", "lost").code == 2
    assert cli("inbox", "--limit", "0").code == 2


def test_a_sender_reads_in_one_line_what_became_of_the_changes(cli: Cli, api: FakeApi) -> None:
    """In the list, in the whole dispatch, and at the end of watching it."""
    landing = {
        "landed": "part",
        "in_place": 3,
        "in_all": 5,
        "words": "3 of 5 applied",
        "at": "2026-11-22T12:00:00Z",
    }
    told = document(direction="sent", status="completed", result=result(), landed="part", landing=landing)
    api["GET /v1/dispatches"] = {
        "dispatches": [row(direction="sent", status="completed", landing=landing), row(SECOND)]
    }
    api[f"GET /v1/dispatches/{FIRST}"] = told
    api.streams[FIRST] = [Stream([("end", told)])]
    assert "completed, changes: 3 of 5 applied" in " ".join(cli("sent").out.split())
    for command in ("status", "watch"):
        assert "\nchanges: 3 of 5 applied\n" in cli(command, FIRST).out
    assert cli("status", FIRST, "--json").document["landed"] == "part"


def test_empty_lists_say_so(cli: Cli, api: FakeApi) -> None:
    api["GET /v1/dispatches"] = {"dispatches": []}
    api["GET /v1/contacts"] = {"trust": []}
    api["GET /v1/approvals"] = page_of_calls()
    assert "sent to you" in cli("inbox").out
    assert "sent by you" in cli("sent").out
    assert "dispatch invite" in cli("contacts").out
    assert "no tool call" in cli("approvals").out
    assert cli("approvals", "--json").document == []


def lists(rows: dict[str, list[dict[str, Any]]]) -> Callable[[Asked], Any]:
    return lambda asked: {"dispatches": [] if "before" in asked.query else rows.get(asked.query["direction"], [])}


@pytest.mark.parametrize(
    "given", ["abcd5555", "ABCD5555", "5555", "0198c0de-1111", "0198c0de1111", "4444abcd5555", f" {FIRST} "]
)
def test_an_id_may_be_short(cli: Cli, api: FakeApi, given: str) -> None:
    api["GET /v1/dispatches"] = lists({"received": [row(FIRST)], "sent": [row(SECOND), row(THIRD)]})
    api[f"GET /v1/dispatches/{FIRST}"] = document()
    assert cli("status", given, "--json").document["dispatch_id"] == FIRST


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("aaaa7777", 422, f"matches 2: {SECOND} (alice@example.org), {THIRD} (alice@example.org)"),
        ("0198c0de", 422, "matches 2: "),
        ("ffff", 404, "no dispatch 'ffff'"),
        ("555", 422, "is not a dispatch id"),
        ("not-hex!", 422, "is not a dispatch id"),
        (FIRST + "0", 422, "is not a dispatch id"),
    ],
)
def test_an_id_that_is_not_one(cli: Cli, api: FakeApi, given: str, code: int, said: str) -> None:
    api["GET /v1/dispatches"] = lists({"received": [row(FIRST)], "sent": [row(SECOND), row(THIRD)]})
    outcome = cli("status", given, "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (2 if code == 422 else 1, code)
    assert said in outcome.document["error"]["message"]


def test_an_old_id_is_found_on_a_later_page(cli: Cli, api: FakeApi) -> None:
    pages = {None: [row(THIRD)], THIRD: [row(SECOND)], SECOND: [row(FIRST)]}

    def page(asked: Asked) -> Any:
        (found,) = pages[asked.query.get("before")]
        return {"dispatches": [found], "more": found["dispatch_id"] != FIRST, "next": found["dispatch_id"]}

    api["GET /v1/dispatches"] = page
    api[f"GET /v1/dispatches/{FIRST}"] = document()
    assert cli("status", "abcd5555", "--json").document["dispatch_id"] == FIRST


def test_accepting_looks_in_the_inbox_only(cli: Cli, api: FakeApi) -> None:
    api["GET /v1/dispatches"] = lists({"received": [row(SECOND)], "sent": [row(THIRD)]})
    api[f"POST /v1/dispatches/{SECOND}/decline"] = {**DECIDED, "dispatch_id": SECOND, "decision": "declined"}
    assert cli("decline", "aaaa7777", "--reason", "no").code == 0
    assert api.bodies("POST", f"/v1/dispatches/{SECOND}/decline") == [{"reason": "no"}]


def test_watching_is_one_document_a_line(cli: Cli, api: FakeApi) -> None:
    events = [("trace", event) for event in document()["events"]] + [("end", {"status": "completed"})]
    api.streams[FIRST] = [Stream(events)]
    api[f"GET /v1/dispatches/{FIRST}"] = ENDED
    lines = [json.loads(line) for line in cli("watch", FIRST, "--json").out.splitlines()]
    assert [(line["kind"], line["id"], line["data"]) for line in lines] == [
        (kind, str(number), data) for number, (kind, data) in enumerate(events, 1)
    ]
    human = cli("watch", FIRST)
    assert human.code == 0
    assert "→ Read" in human.out
    assert "result: completed" in human.out
    hostile = [(kind, every_text_hostile(data, ("kind", "at"))) for kind, data in events]
    api.streams[FIRST] = [Stream([*hostile, ("trace", {"kind": HOSTILE, HOSTILE: HOSTILE}), ("end", {})])]
    assert [char for char in FORBIDDEN if char in cli("watch", FIRST).out] == []
    assert cli("watch", SECOND).code == 1


# Deciding


def test_accept_without_a_terminal_warns_that_calls_will_wait(cli: Cli, api: FakeApi) -> None:
    prepare(api, CASES["accept"])
    outcome = cli(*CASES["accept"].args)
    assert "warning: every tool call of this run waits for you in `dispatch approvals`" in outcome.err


def test_a_suggested_folder_is_not_used_without_a_person(cli: Cli, api: FakeApi) -> None:
    prepare(api, CASES["accept"])
    suggestion = {
        "cwd": "/code/shop",
        "project": "shop",
        "reason": "named in the task",
        "pinned": False,
        "candidates": [],
    }
    api[f"GET /v1/dispatches/{FIRST}"] = document(suggestion=suggestion)
    outcome = cli(*CASES["accept"].args)
    assert api.bodies("POST", f"/v1/dispatches/{FIRST}/accept") == [{}]
    assert "not run in /code/shop (named in the task)" in outcome.err
    api[f"GET /v1/dispatches/{FIRST}/folder"] = {"cwd": str(Path.cwd() / "sub"), "obstacles": []}
    assert cli(*CASES["accept"].args, "--cwd", "sub").code == 0
    assert api.bodies("POST", f"/v1/dispatches/{FIRST}/accept")[-1] == {"cwd": str(Path.cwd() / "sub")}
    api[f"GET /v1/dispatches/{FIRST}"] = document(suggestion={**suggestion, "pinned": True})
    assert "not run in" not in cli(*CASES["accept"].args).err


def test_accept_can_follow_without_a_terminal(cli: Cli, api: FakeApi) -> None:
    prepare(api, CASES["accept"])
    api.streams[FIRST] = [Stream([("approval", approval()), ("end", {"status": "completed"})])]
    answers = iter([document(), ENDED, document(), ENDED])
    api[f"GET /v1/dispatches/{FIRST}"] = lambda _: next(answers)
    human = cli("accept", FIRST, "--follow")
    assert human.code == 0
    assert "a call is waiting for you" in human.err
    as_json = cli("accept", FIRST, "--follow", "--json")
    assert as_json.document == {**CASES["accept"].printed, **ENDED}


@pytest.mark.parametrize(
    ("args", "body"),
    [
        (["approve", FIRST, "r-1"], {"decision": "allow", "grant": "once"}),
        (["approve", "5555", "r-1", "--always"], {"decision": "allow", "grant": "always"}),
        (["approve", "abcd5555", "r-1", "--session"], {"decision": "allow", "grant": "session"}),
        (["approve", FIRST, "r-1", "--always", "--rule", "2"], {"decision": "allow", "grant": "always", "rule": 1}),
        (["deny", "5555", "r-1"], {"decision": "deny"}),
        (["deny", FIRST, "r-1", "--note", "why"], {"decision": "deny", "note": "why"}),
    ],
)
def test_answers(cli: Cli, api: FakeApi, args: list[str], body: dict[str, str]) -> None:
    prepare(api, CASES["approve"])
    api["GET /v1/dispatches"] = lists({"received": [row(FIRST)]})
    assert cli(*args).code == 0
    assert api.bodies("POST", f"/v1/approvals/{FIRST}/r-1") == [body]


@pytest.mark.parametrize("command", ["approve", "deny"])
def test_the_only_waiting_call_of_a_dispatch_needs_no_request(cli: Cli, api: FakeApi, command: str) -> None:
    """Seen to fail with "Missing argument 'REQUEST'"; of several, all are named, and nothing is answered."""
    calls = [approval(request="toolu_0_1_277111238"), approval(SECOND, request="toolu_0_1_277111239")]
    api["GET /v1/dispatches"] = lists({"received": [row(FIRST), row(SECOND)]})
    api["GET /v1/approvals"] = lambda _: page_of_calls(*calls)
    api[f"POST /v1/approvals/{FIRST}/toolu_0_1_277111238"] = ANSWERED
    assert cli(command, "abcd5555").code == 0
    assert len(api.bodies("POST", f"/v1/approvals/{FIRST}/toolu_0_1_277111238")) == 1
    calls.append(approval(request="toolu_0_2_277111238", tool="Bash", input={"command": "make"}))
    asked = cli(command, "abcd5555")
    assert asked.code == 2 and "Run make" in asked.out and "dispatch approve abcd5555 1_277111238" in asked.err
    assert cli(command, "abcd5555", "--json").document["error"]["code"] == 422
    assert cli(command, "abcd5555", "1_277111238").code == 0
    calls.clear()
    assert cli(command, "abcd5555", "--json").document["error"]["code"] == 409


def test_every_waiting_call_is_listed_page_by_page(cli: Cli, api: FakeApi) -> None:
    """Seen to fail where only the first page is read."""
    pages = {"": ("r-1", f"{FIRST} r-1"), f"{FIRST} r-1": ("r-2", f"{FIRST} r-2"), f"{FIRST} r-2": ("r-3", None)}

    def page(asked: Asked) -> Any:
        request, after = pages[asked.query.get("before", "")]
        return page_of_calls(approval(request=request), next_page=after)

    api["GET /v1/approvals"] = page
    api[f"POST /v1/approvals/{FIRST}/r-3"] = ANSWERED
    assert [call["request_id"] for call in cli("approvals", "--json").document] == ["r-1", "r-2", "r-3"]
    assert all(request in cli("approvals").out for request in ("r-1", "r-2", "r-3"))
    assert cli("approve", FIRST, "r-3").code == 0


def test_answers_to_nothing(cli: Cli, api: FakeApi) -> None:
    api["GET /v1/approvals"] = page_of_calls()
    api["GET /v1/dispatches"] = lists({"received": [row(FIRST)]})
    outcome = cli("approve", "5555", "r-1", "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (1, 409)
    assert outcome.document["error"]["message"].startswith("nothing pending: ")
    assert "approvals" in outcome.document["error"]["fix"]
    assert cli("approve", "ffff", "r-1", "--json").document["error"]["code"] == 404
    assert cli("approve", FIRST, "r-1", "--always", "--session").code == 2
    assert cli("approve", FIRST, "r-1", "--rule", "1").code == 2
    api.fails(
        f"POST /v1/approvals/{FIRST}/r-1", 409, "nothing pending: it was answered", "re-check `dispatch approvals`"
    )
    assert cli("approve", FIRST, "r-1", "--json").document["error"]["message"] == "nothing pending: it was answered"


def test_a_request_may_be_short_unless_it_fits_two(cli: Cli, api: FakeApi) -> None:
    api["GET /v1/approvals"] = page_of_calls(approval(request="toolu_abc1"), approval(request="toolu_abc2"))
    api[f"POST /v1/approvals/{FIRST}/toolu_abc2"] = ANSWERED
    assert cli("approve", FIRST, "abc2").code == 0
    assert cli("approve", FIRST, "toolu", "--json").document["error"]["code"] == 422


# Trust


def test_accepting_without_tools_shows_the_menu_and_exits_2(cli: Cli, api: FakeApi) -> None:
    api["POST /v1/invitations/accept"] = offer()
    human = cli("accept-invitation", TOKEN)
    assert human.code == 2
    assert "alice@example.org wants to be able to dispatch tasks to your machine." in human.out
    for number in "12345":
        assert f"\n  {number}  " in human.out
    assert "github" in human.out
    assert "tulip-anvil 1234\nTheir key is not verified. Compare" in human.out
    assert "--tools" in human.err
    as_json = cli("accept-invitation", TOKEN, "--json", "--approval", "auto")
    assert as_json.code == 2
    assert {**offer(), "error": as_json.document["error"]} == as_json.document
    assert as_json.document["error"]["code"] == 422
    assert api.bodies("POST", "/v1/invitations/accept") == [{"token": TOKEN, "confirm_unverified": False}] * 2


def test_a_scope_is_passed_on_as_it_was_said(cli: Cli, api: FakeApi) -> None:
    api["POST /v1/invitations/accept"] = GRANTED
    args = ["--tools", "Read", "--mcp-servers", "none", "--paths", "shop,/srv/x", "--approval", "manual"]
    args += ["--max-per-day", "5", "--expires", "30d", "--results", "redacted"]
    args += ["--minutes", "10", "--turns", "20", "--usd", "0.5", "--output-mb", "3"]
    assert cli("accept-invitation", "-", *args, stdin=f"{ADDRESS}\n").code == 0
    assert api.bodies("POST", "/v1/invitations/accept") == [
        {
            "token": ADDRESS,
            "tools": "Read",
            "mcp_servers": "none",
            "paths": [str(Path.cwd() / "shop"), "/srv/x"],
            "approval": "manual",
            "max_per_day": 5,
            "expires": "30d",
            "results": "redacted",
            "budget": {"minutes": 10, "turns": 20, "usd": 0.5, "output_bytes": 3 * 1024 * 1024},
            "confirm_unverified": False,
        }
    ]


@pytest.mark.parametrize(
    "power",
    [
        ["--tools", "Read,Write"],
        ["--tools", "Bash"],
        ["--tools", "Read", "--mcp-servers", "*"],
        ["--tools", "Read", "--approval", "auto"],
    ],
)
def test_power_for_an_unverified_key_needs_a_second_yes(cli: Cli, api: FakeApi, power: list[str]) -> None:
    def answer(asked: Asked) -> Any:
        return GRANTED if "tools" in asked.body else offer()

    api["POST /v1/invitations/accept"] = answer
    refused = cli("accept-invitation", TOKEN, *power, "--json")
    assert (refused.code, refused.document["error"]["code"]) == (1, 403)
    assert "tulip-anvil 1234" in refused.document["error"]["message"]
    assert "--yes-unverified" in refused.document["error"]["fix"]
    assert cli("accept-invitation", TOKEN, *power, "--yes-unverified").code == 0
    granted = [body for body in api.bodies("POST", "/v1/invitations/accept") if "tools" in body]
    assert [body["confirm_unverified"] for body in granted] == [True]


def test_power_for_a_verified_key_needs_none(cli: Cli, api: FakeApi) -> None:
    api["POST /v1/invitations/accept"] = lambda asked: GRANTED if "tools" in asked.body else offer(verified=True)
    assert cli("accept-invitation", TOKEN, "--tools", "Bash").code == 0


def test_editing(cli: Cli, api: FakeApi) -> None:
    api["GET /v1/trust/alice"] = edge()
    api["PATCH /v1/trust/alice"] = edge()
    assert cli("trust", "edit", "alice", "--json").document == edge()
    assert api.bodies("PATCH", "/v1/trust/alice") == []
    assert cli("trust", "edit", "alice", "--tools", "Read", "--paths", "none", "--remove-rule", "7").code == 0
    assert api.bodies("PATCH", "/v1/trust/alice") == [
        {"tools": "Read", "paths": "none", "remove_rule": 7, "confirm_unverified": False}
    ]
    assert cli("trust", "edit", "alice", "--tools", "Read,Bash", "--json").document["error"]["code"] == 403
    assert cli("trust", "edit", "alice", "--tools", "Read,Bash", "--yes-unverified").code == 0
    assert api.bodies("PATCH", "/v1/trust/alice")[-1]["confirm_unverified"] is True
    api["GET /v1/trust/alice"] = edge(scopes={**edge()["scopes"], "tools": ["Read", "Bash"]})
    assert cli("trust", "edit", "alice", "--tools", "Bash").code == 0, "what is granted already asks nobody again"


@pytest.mark.parametrize("none", ["", " ", ","])
def test_folders_that_are_none_lift_no_restriction(cli: Cli, api: FakeApi, none: str) -> None:
    """Seen to fail: an empty value, of an unset variable say, lifted the restriction to folders and said nothing."""
    api["GET /v1/trust/alice"] = edge()
    api["PATCH /v1/trust/alice"] = edge()
    refused = cli("trust", "edit", "alice", "--paths", none, "--json")
    assert refused.code == 2 and "--paths none" in refused.document["error"]["fix"]
    assert api.bodies("PATCH", "/v1/trust/alice") == []


def test_what_this_version_does_not_know_of_an_invitation_is_counted(cli: Cli, api: FakeApi) -> None:
    rows = cast(list[dict[str, object]], INVITATIONS["received"])
    received = [{**row, "unknown_fields": 2} for row in rows]
    api["GET /v1/invitations"] = {**INVITATIONS, "received": received}
    assert "2 fields this version does not know" in cli("invitations").out


def test_the_short_token_of_an_invitation_that_was_answered_is_known(cli: Cli, api: FakeApi) -> None:
    """Seen to fail with 404, "there is no invitation here", for one that `accept-invitation` had just answered."""
    api["GET /v1/invitations"] = lambda asked: (
        INVITATIONS if asked.query.get("ended") == "1" else {"sent": [], "received": []}
    )
    gone = {"error": {"code": 409, "message": "this invitation was accepted already", "fix": "see `dispatch contacts`"}}
    api["POST /v1/invitations/accept"] = 409, gone
    assert cli("accept-invitation", TOKEN[-8:], "--tools", "Read", "--json").document == gone
    assert cli("accept-invitation", "0000abcd", "--tools", "Read", "--json").document["error"]["code"] == 404


def test_a_page_of_invitations_begins_after_a_short_token(cli: Cli, api: FakeApi) -> None:
    """As lists show it. Seen to fail with 404 of the daemon."""
    api["GET /v1/invitations"] = INVITATIONS
    assert cli("invitations", "--before", TOKEN[-8:], "--limit", "2").code == 0
    assert api.asked[-1].query["before"] == TOKEN
    assert "`dispatch invitations` lists the tokens" in cli("invitations", "--before", "0000abcd").err


def test_a_folder_that_is_granted_stands_at_its_own_path(cli: Cli, api: FakeApi) -> None:
    """Which is said where it is granted, by `accept-invitation` and by `trust edit`, and not with every other edit."""
    api["GET /v1/trust/alice"] = edge()
    api["PATCH /v1/trust/alice"] = edge()
    assert FOLDERS in cli("trust", "edit", "alice", "--paths", "/home/bob/shop").err
    assert FOLDERS not in cli("trust", "edit", "alice", "--max-per-day", "5").err
    for scopes, said in ((edge()["scopes"], True), ({**edge()["scopes"], "paths": []}, False)):
        api["POST /v1/invitations/accept"] = {**GRANTED, "scopes": scopes}
        assert (FOLDERS in cli("accept-invitation", TOKEN, "--tools", "Read").err) is said


def test_an_invitation_that_is_there_already(cli: Cli, api: FakeApi) -> None:
    api["POST /v1/invitations"] = {"token": TOKEN, "to": "c@d.e", "emailed": True, "link": "", "existing": True}
    assert "nothing changed" in cli("invite", "c@d.e").out


# Flags about the broker


def test_what_flags_and_variables_name_is_said_to_the_daemon(
    cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In normal form, the token by its digest; nothing is said where nothing is named. The daemon compares."""
    prepare(api, CASES["invite"])
    cli.configure(broker="https://broker.example", token="t")

    def said(*args: str) -> tuple[str | None, str | None]:
        assert cli(*args).code == 0
        headers = api.asked[-1].headers
        return headers.get("x-dispatch-broker"), headers.get("x-dispatch-token-digest")

    args, digest = CASES["invite"].args, hashlib.sha256(b"t").hexdigest()
    assert said(*args) == (None, None)
    assert said("--broker", "https://B.example/", *args) == said(*args, "--broker", "https://b.example")
    assert said(*args, "--broker", "https://b.example", "--token", "t") == ("https://b.example", digest)
    monkeypatch.setenv("DISPATCH_BROKER", "https://v.example")
    monkeypatch.setenv("DISPATCH_TOKEN", "t")
    assert said(*args) == ("https://v.example", digest)
    assert said(*args, "--broker", "https://b.example") == ("https://b.example", digest)


# The program itself


def test_usage_errors_are_json_too(cli: Cli) -> None:
    for args in (
        ["--json", "nonsense"],
        ["inbox", "--nonsense", "--json"],
        ["status", "--json"],
        ["trust", "shwo", "x", "--json"],
    ):
        outcome = cli(*args)
        assert outcome.code == 2
        assert outcome.document["error"]["code"] == 422
        assert "--help" in outcome.document["error"]["fix"]
    assert "did you mean `dispatch inbox`?" in cli("inbx").err
    assert cli("send", "bob", "--", "--json").code == 1, "after -- it is the task"


def test_a_bug_is_an_error_with_its_document(cli: Cli, api: FakeApi) -> None:
    api["GET /v1/contacts"] = {}
    outcome = cli("contacts")
    assert (outcome.code, outcome.out) == (1, "")
    assert "Traceback" in outcome.err
    assert "report it" in outcome.err


def test_a_bad_home_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCH_HOME", "relative")
    assert cli("inbox", "--json").document["error"]["code"] == 422


@pytest.mark.parametrize("given", ["stdin", "argument", "file"])
def test_a_byte_order_mark_is_no_part_of_a_text(cli: Cli, api: FakeApi, given: str) -> None:
    api["POST /v1/dispatches"] = SENT
    Path("notes.md").write_text("\ufeffsince Monday", "utf-8")
    task, stdin = ("-", "\ufeffhello") if given == "stdin" else ("\ufeffhello", "")
    more = ["--background", "@notes.md"] if given == "file" else []
    done = cli("send", "bob@example.org", task, *more, "--json", stdin=stdin)
    assert done.code == 0 and "byte order mark" in done.err
    (body,) = api.bodies("POST", "/v1/dispatches")
    assert body["task"] == "hello" and body.get("background", "") == ("since Monday" if more else "")


@pytest.mark.parametrize("text", ["- first point", "-1 is wrong", "--fix it", "-x"])
def test_a_text_that_begins_with_a_dash_gets_the_hint(cli: Cli, api: FakeApi, text: str) -> None:
    api["POST /v1/dispatches"] = SENT
    refused = cli("send", "bob@example.org", text)
    assert refused.code == 2 and " -- " in refused.err.splitlines()[-1], refused.err
    assert cli("send", "bob@example.org", "--", text).code == 0
    assert api.bodies("POST", "/v1/dispatches")[0]["task"] == text
    assert " -- " not in cli("inbox", "--nope").err, "a command without a text has no use for it"


def test_words_without_quotes_get_the_hint(cli: Cli, api: FakeApi) -> None:
    """Seen to fail with the help alone, as if another option were meant."""
    refused = cli("send", "bob@example.org", "why", "does", "it", "fail")
    assert refused.code == 2 and "goes in quotes" in refused.err.splitlines()[-1], refused.err


@pytest.mark.parametrize(
    ("typed", "fix"),
    [
        ("bob@bücher.example", "bob@xn--bcher-kva.example"),
        ("bob@例え.example", "bob@xn--r8jz45g.example"),
        ("bøb@example.org", "name@example.org"),
        ("bob@exаmple.org", "bob@xn--exmple-4nf.org"),
        ("bob@..ü", "name@example.org"),
    ],
)
def test_an_address_is_shown_as_it_was_typed(cli: Cli, typed: str, fix: str) -> None:
    error = cli("config", "set", "email", typed).err
    assert typed in error and fix in error, error


@pytest.mark.parametrize(
    ("usage", "shown"),
    [
        (
            {"turns": 3, "input_tokens": 4800, "cost_usd": 0.02192, "seconds": 56.132},
            "3 turns · $0.02 · 56 s",
        ),
        ({"turns": 1, "cost_usd": 0.0004, "seconds": 2}, "1 turn · less than $0.01 · 2 s"),
        ({"turns": 0, "cost_usd": 0.0, "seconds": 0.0}, "0 turns · 0 s"),
    ],
)
def test_what_a_run_used_is_in_words(cli: Cli, api: FakeApi, usage: dict[str, float], shown: str) -> None:
    """Seen to fail with "turns 3, input_tokens 4800, cost_usd 0.02192, seconds 56.132"."""
    api[f"GET /v1/dispatches/{FIRST}"] = document(status="completed", result={**result(), "usage": usage})
    assert f"\n{shown}\n" in cli("status", FIRST).out


def test_a_failure_is_shown_with_its_reason_and_fix(cli: Cli, api: FakeApi) -> None:
    failed = result(status="failed", reason="the script is no list", fix="`dispatch config set script FILE`")
    api[f"GET /v1/dispatches/{FIRST}"] = document(status="failed", result=failed)
    shown = cli("status", FIRST).out
    assert "the script is no list" in shown and "fix: `dispatch config set script FILE`" in shown


def test_accept_warns_of_what_will_not_work_before_it_accepts(cli: Cli, api: FakeApi) -> None:
    api[f"GET /v1/dispatches/{FIRST}/folder"] = {"cwd": "/w", "obstacles": ["git will not work: it lies elsewhere"]}
    accepted = cli(*CASES["accept"].args, "--cwd", "/w")
    assert "git will not work" in accepted.err
    asked = [each.path.partition("?")[0].rpartition("/")[2] for each in api.asked]
    assert asked.index("folder") < asked.index("accept")


@pytest.mark.parametrize("agrees", [True, False])
def test_a_key_is_forgotten_only_on_a_word_of_the_persons(
    cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    api["GET /v1/contacts"] = {"trust": [edge(peer="bob@example.org", alias="bobby", fingerprint="tulip-anvil")]}
    api["DELETE /v1/trust/bobby/key"] = {"status": "forgotten", "peer": "bob@example.org", "answered": True}
    unasked = cli("trust", "forget-key", "bobby")
    assert unasked.code == 1 and "in person or by phone" in unasked.err
    asked: list[str] = []
    monkeypatch.setattr("cli.trust.interactive", lambda: True)

    def answer(question: str) -> bool:
        asked.append(question)
        return agrees

    monkeypatch.setattr("cli.trust.confirm", answer)
    said = cli("trust", "forget-key", "bobby")
    assert said.code == 0 and asked == [
        "Did bob@example.org (bobby) tell you in person or by phone that they have a new key?"
    ]
    assert "tulip-anvil" in said.out
    assert ("forgotten" in said.out, "nothing was changed" in said.out) == (agrees, not agrees)
    assert ("is taken now" in said.err) == agrees
    assert [one.method for one in api.asked].count("DELETE") == agrees


def test_who_is_no_contact_is_said_before_any_question(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.trust.interactive", lambda: True)
    api["GET /v1/contacts"] = {"trust": []}
    assert "error 404" in cli("trust", "forget-key", "bobx").err


def test_a_forgotten_key_and_another_one_are_shown_with_what_to_do(cli: Cli, api: FakeApi) -> None:
    api["GET /v1/contacts"] = {"trust": [edge(peer="bob@example.org", key_forgotten="2026-12-01T12:00:00.000Z")] * 2}
    said = cli("contacts")
    assert said.out.count("key forgotten: bob@example.org") == 1 and "dispatch invite bob@example.org" in said.out
    sent = [{"token": TOKEN, "to": "carol@example.org", "status": "open", "progress": "other_key"}]
    received = [{"token": TOKEN, "from": "dave@example.org", "status": "open", "other_key": True}]
    api["GET /v1/invitations"] = {"sent": sent, "received": received}
    said = cli("invitations")
    assert "answered, under a different key" in said.out
    for name in ("carol", "dave"):
        assert f"dispatch trust forget-key {name}@example.org" in said.out + said.err
