"""On a real terminal (a pty): the run that `accept` follows, each question it asks, and what is thrown away."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli import layout
from tests.cli.conftest import Cli
from tests.cli.documents import FIRST, HOSTILE, SECOND, TOKEN, approval, document, edge, offer, result, row
from tests.cli.fake_api import Asked, FakeApi, Stream, page_of_calls
from tests.conftest import HANG

ROOT = Path(__file__).parents[2]
START = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from cli.main import main; main()"
"""Takes the terminal as its own first, so that Ctrl-C typed there is a signal to it."""


class Terminal:
    """A process whose three streams are a terminal; what it has shown is in `shown`.

    `environment`: in place of this process's, which gets a TERM of its own.
    """

    def __init__(self, *args: str, columns: int = 100, environment: dict[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *args],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=(environment or os.environ | {"TERM": "xterm"}) | {"COLUMNS": str(columns)},
            start_new_session=True,
        )
        os.close(slave)

    def until(self, words: str) -> str:
        """Read until `words` are shown; return what came before them, from here on forgotten."""
        deadline = time.monotonic() + HANG
        while words not in self.shown:
            self._read(deadline, words)
        before, _, self.shown = self.shown.partition(words)
        return before

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Read to the end; return the exit code."""
        deadline = time.monotonic() + HANG
        while True:
            try:
                self._read(deadline, "its end")
            except OSError:  # EIO: nobody has the other side open
                return self.process.wait(HANG)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def _read(self, deadline: float, wanted: str) -> None:
        ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{wanted!r} did not come after {self.shown!r}"
        data = os.read(self.master, 65536)
        if not data:
            raise OSError
        self.shown += data.decode("utf-8", "replace").replace("\r\n", "\n")


@contextmanager
def terminal(*args: str, columns: int = 100) -> Iterator[Terminal]:
    opened = Terminal(*args, columns=columns)
    try:
        yield opened
    finally:
        opened.close()


class Run:
    """A run in the fake: one call after the other waits until it is answered, then the run ends."""

    def __init__(self, api: FakeApi, *calls: dict[str, Any], status: str = "completed") -> None:
        self.open: list[dict[str, Any]] = []
        self.answers: list[Any] = []
        self.accepted = False
        gates: dict[int, threading.Event] = {}
        events: list[tuple[str, Any]] = [("state", {"status": "running"})]
        for call in calls:
            events += [("approval", call), ("trace", {"kind": "reasoning", "text": f"after {call['request_id']}"})]
            waiting = gates[len(events)] = threading.Event()

            def answer(asked: Asked, call: dict[str, Any] = call, gate: threading.Event = waiting) -> Any:
                self.answers.append(asked.body)
                self.open.remove(call)
                gate.set()
                return {"dispatch_id": FIRST, "request_id": call["request_id"], "decision": "x", "ok": True}

            api[f"POST /v1/approvals/{FIRST}/{call['request_id']}"] = answer
        self.open += calls
        self.gates = gates
        events.append(("end", {"status": status}))
        api.streams[FIRST] = [Stream(events, gates=gates)]
        api["GET /v1/approvals"] = lambda _: page_of_calls(*self.open[:1])
        api[f"GET /v1/dispatches/{FIRST}"] = lambda _: (
            document(status=status, result=result(status=status)) if self.accepted else document()
        )

        def accept(asked: Asked) -> Any:
            self.accepted = True
            return {"dispatch_id": FIRST, "decision": "accepted", "ok": True, "approval": "manual", "cwd": "/w"}

        api[f"POST /v1/dispatches/{FIRST}/accept"] = accept


def plain(text: str) -> str:
    """Return the text without our own colours: after that no escape may be left."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


ANSWER = "[1/2/3/4/5/r] (1 min "


def test_each_answer_is_asked_and_sent(cli: Cli, api: FakeApi) -> None:
    """In the order of the page's card, the raw call only when it is asked for, no rule stored before it was shown."""
    calls = [approval(request=f"r-{number}") for number in range(1, 6)]
    run = Run(api, *calls)
    with terminal("accept", FIRST) as screen:
        for typed in ("1", "2", "3", "4", "4 use the copy"):
            shown = plain(screen.until(ANSWER))
            order = ["Rewrite notes.md, +1 −1", "+one", "on this machine: /home/bob/shop/notes.md", "for abcd5555"]
            order += ["“Find why the build fails”", "what this returns goes to alice@example.org", "1  Allow once"]
            places = [shown.index(words) for words in (*order, "5  Decline the dispatch", "Your answer? ")]
            assert places == sorted(places), shown
            assert "file_path" not in shown and shown.count("on this machine") == 1
            if typed == "2":
                screen.type("r\n")
                assert "file_path: notes.md" in plain(screen.until(ANSWER))
                for answer in ("n", "y"):
                    screen.type("2\n")
                    asked = plain(screen.until("Store it? [y/N] "))
                    assert "Write(/home/bob/shop/notes.md)" in asked
                    assert "dispatch trust show alice@example.org" in asked
                    assert len(run.answers) == 1
                    screen.type(f"{answer}\n")
                    if answer == "n":
                        screen.until(ANSWER)
            else:
                screen.type(f"{typed}\n")
        screen.until("is a space.")
        assert screen.end() == 0
    assert run.answers == [
        {"decision": "allow", "grant": "once"},
        {"decision": "allow", "grant": "always"},
        {"decision": "allow", "grant": "session"},
        {"decision": "deny"},
        {"decision": "deny", "note": "use the copy"},
    ]


def test_a_wider_rule_is_picked_from_those_offered(cli: Cli, api: FakeApi) -> None:
    rules = [{"tool": "Bash", "pattern": "git log -3"}, {"tool": "Bash", "pattern": "git log", "reach": "prefix"}]
    run = Run(api, approval(rule_if_always=rules[0], rule_choices=rules))
    with terminal("accept", FIRST) as screen:
        screen.until(ANSWER)
        screen.type("2\n")
        assert "2  Bash(git log), or with more words after it" in plain(screen.until("Which one? [1/2, Enter: none] "))
        screen.type("2\n")
        screen.until("is a space.")
        assert screen.end() == 0
    assert run.answers == [{"decision": "allow", "grant": "always", "rule": 1}]


def test_declining_the_dispatch_ends_it_with_1(cli: Cli, api: FakeApi) -> None:
    """By the key that declines on the page, too. Seen to fail while it was 6 here, where 5 denied with a note."""
    run = Run(api, approval(rule_if_always=None), status="declined")
    with terminal("accept", FIRST) as screen:
        assert "Always" not in screen.until("[1/3/4/5/r] ")
        screen.type("2\n")
        screen.until("please type one of 1, 3, 4, 5, r")
        screen.until("Your answer?")
        screen.type("5\n")
        assert screen.end() == 1
    assert run.answers == [{"decision": "deny", "decline_dispatch": True}]


def test_approvals_asks_each_call_at_a_terminal(cli: Cli, api: FakeApi) -> None:
    """The one with least time first; Enter leaves one waiting. With `--list` nothing is asked."""
    calls = [
        approval(request="r-1"),
        approval(SECOND, request="r-2", expires_in=30, tool="Bash", input={"command": "make"}),
    ]
    api["GET /v1/approvals"] = lambda _: page_of_calls(*calls)
    called = {"kind": "tool_call", "tool": "Bash", "call_id": "r-2", "attempt": 1}
    api[f"GET /v1/dispatches/{FIRST}"] = document()
    api[f"GET /v1/dispatches/{SECOND}"] = document(SECOND, events=[*document()["events"], called])
    api[f"POST /v1/approvals/{FIRST}/r-1"] = {"ok": True}
    with terminal("approvals") as screen:
        shown = plain(screen.until("Enter: skip] "))
        assert "1 of 2" in shown and "Run make" in shown and "step 2 of aaaa7777" in shown
        screen.type("\n")
        assert "skipped: it still waits" in screen.until("Enter: skip] ")
        screen.type("1\n")
        screen.until("allowed once")
        assert screen.end() == 0
    assert api.bodies("POST", f"/v1/approvals/{FIRST}/r-1") == [{"decision": "allow", "grant": "once"}]
    with terminal("approvals", "--list") as screen:
        assert screen.end() == 0 and "Your answer" not in screen.shown
    with terminal("approve", FIRST, "--always") as screen:
        assert "Write(/home/bob/shop/notes.md)" in screen.until("Store it? [y/N] ")
        screen.type("\n")
        screen.until("not answered")
        assert screen.end() == 1
    assert len(api.bodies("POST", f"/v1/approvals/{FIRST}/r-1")) == 1


def test_what_was_typed_before_the_question_is_no_answer(cli: Cli, api: FakeApi) -> None:
    run = Run(api, approval())
    release = threading.Event()
    waiting = api.answers["GET", "/v1/approvals"]
    assert callable(waiting)

    def slow(asked: Asked) -> Any:
        release.wait(HANG)
        return waiting(asked)

    api["GET /v1/approvals"] = slow
    with terminal("accept", FIRST) as screen:
        api.wait_for("GET", "/v1/approvals")
        screen.type("1\n")
        release.set()
        screen.until("Your answer?")
        screen.type("4\n")
        assert screen.end() == 0
    assert run.answers == [{"decision": "deny"}]


def test_no_answer_in_time_leaves_it_denied(cli: Cli, api: FakeApi) -> None:
    call = approval(expires_in=0.2)
    run = Run(api, call)
    with terminal("accept", FIRST) as screen:
        screen.until("no answer: the call is denied when its time runs out")
        run.open.clear()
        for gate in run.gates.values():
            gate.set()
        assert screen.end() == 0
    assert run.answers == []


def test_a_call_that_was_answered_elsewhere(cli: Cli, api: FakeApi) -> None:
    run = Run(api, approval())

    def gone(asked: Asked) -> Any:
        run.open.clear()
        run.gates[3].set()
        return 409, {"error": {"code": 409, "message": "nothing pending: it was answered", "fix": ""}}

    api[f"POST /v1/approvals/{FIRST}/r-1"] = gone
    with terminal("accept", FIRST) as screen:
        screen.until("Your answer?")
        screen.type("1\n")
        screen.until("nothing pending: it was answered")
        assert screen.end() == 0


def test_ctrl_c_leaves_the_run(cli: Cli, api: FakeApi) -> None:
    run = Run(api, approval())
    with terminal("accept", FIRST) as screen:
        screen.until("Your answer?")
        screen.type("\x03")
        screen.until("the run goes on; to come back: `dispatch accept abcd5555`")
        assert screen.end() == 130
    assert run.answers == []
    assert not any(asked.path.endswith("/cancel") for asked in api.asked)


@pytest.mark.parametrize("command", [["accept", FIRST, "--cwd", "/elsewhere"], ["watch", FIRST]])
def test_a_run_that_was_left_is_taken_up_again(cli: Cli, api: FakeApi, command: list[str]) -> None:
    """Seen to fail with 409, "a dispatch that is running cannot be accepted": its calls had ids to copy by hand."""
    run = Run(api, approval())
    api[f"GET /v1/dispatches/{FIRST}"] = lambda _: (
        document(status="completed", result=result(status="completed")) if run.answers else document(status="running")
    )
    with terminal(*command) as screen:
        assert ("abcd5555 is already running" in screen.until("Your answer?")) is (command[0] == "accept")
        screen.type("1\n")
        assert screen.end() == 0
    assert run.answers == [{"decision": "allow", "grant": "once"}] and not run.accepted


@pytest.mark.parametrize(("key", "body"), [("1", {"cwd": "/code/shop"}), ("2", {"cwd": "/code/shop2"}), ("0", {})])
def test_a_suggested_folder_is_confirmed_by_a_person(cli: Cli, api: FakeApi, key: str, body: dict[str, str]) -> None:
    Run(api)
    suggestion = {
        "cwd": "/code/shop",
        "project": "shop",
        "reason": "named in the task",
        "pinned": False,
        "candidates": [{"cwd": "/code/shop", "reason": "named"}, {"cwd": "/code/shop2", "reason": "a similar name"}],
    }
    ended = api.answers["GET", f"/v1/dispatches/{FIRST}"]
    assert callable(ended)
    documents: list[Callable[[Asked], Any]] = [lambda _: document(suggestion=suggestion), ended]

    def next_document(asked: Asked) -> Any:
        return documents.pop(0)(asked)

    api[f"GET /v1/dispatches/{FIRST}"] = next_document
    with terminal("accept", FIRST) as screen:
        assert "Find why the build fails" in screen.until("Where should it run? [1/2/0] ")
        screen.type(f"{key}\n")
        assert screen.end() == 0
    assert api.bodies("POST", f"/v1/dispatches/{FIRST}/accept") == [body]


@pytest.mark.parametrize(("typed", "bodies"), [("y", [{"cwd": "/real/shop"}]), ("", []), ("n", [])])
def test_a_folder_behind_a_link_is_shown_and_confirmed_before_anything_runs(
    cli: Cli, api: FakeApi, typed: str, bodies: list[dict[str, str]]
) -> None:
    """Seen to fail with a command that names the folder after the accept, as it did."""
    Run(api)
    api[f"GET /v1/dispatches/{FIRST}/folder"] = {
        "cwd": "/real/shop",
        "obstacles": ["git will not work there"],
        "link": "/link",
    }
    with terminal("accept", FIRST, "--cwd", "/link/shop") as screen:
        assert "/link/shop leads through a symbolic link to /real/shop" in plain(screen.until("Run it there? [y/N] "))
        assert not api.bodies("POST", f"/v1/dispatches/{FIRST}/accept")
        screen.type(f"{typed}\n")
        assert screen.end() == (0 if bodies else 1)
        assert ("not accepted: nothing runs" in screen.shown) is not bool(bodies)
    assert api.bodies("POST", f"/v1/dispatches/{FIRST}/accept") == bodies


def test_a_link_of_the_persons_own_is_followed_without_a_question(cli: Cli, api: FakeApi) -> None:
    """Seen to fail with a question wherever the real folder has another name: at each accept, where /home is a link."""
    Run(api)
    api[f"GET /v1/dispatches/{FIRST}/folder"] = {"cwd": "/var/home/bob/shop", "obstacles": [], "link": None}
    with terminal("accept", FIRST, "--cwd", "/home/bob/shop") as screen:
        assert screen.end() == 0 and "leads through" not in screen.shown
    assert api.bodies("POST", f"/v1/dispatches/{FIRST}/accept") == [{"cwd": "/home/bob/shop"}]


def test_no_follow_asks_nothing(cli: Cli, api: FakeApi) -> None:
    Run(api, approval())
    with terminal("accept", FIRST, "--no-follow") as screen:
        screen.until("waits for you in `dispatch approvals`")
        assert screen.end() == 0


def test_hostile_words_on_a_terminal(cli: Cli, api: FakeApi) -> None:
    hostile = approval(tool=HOSTILE, input={HOSTILE: HOSTILE}, diff=f"-{HOSTILE}\n+{HOSTILE}", unusual=[HOSTILE])
    run = Run(api, {**hostile, "sender_id": HOSTILE, "resolved_path": HOSTILE, "rule_if_always": {"tool": HOSTILE}})
    seen = ""
    with terminal("accept", FIRST) as screen:
        seen += screen.until("Your answer?")
        screen.type("1\n")
        assert screen.end() == 0
        seen += screen.shown
    assert run.answers == [{"decision": "allow", "grant": "once"}]
    assert [char for char in "\x1b\x07\x00\u202e\u2066\x9b" if char in plain(seen)] == []
    assert "␛[2J" in seen


def test_tables_on_a_terminal(cli: Cli, api: FakeApi) -> None:
    rows = [document(), document(SECOND, status="completed", task=f"[bold]{HOSTILE}[/bold]")]
    api["GET /v1/dispatches"] = {"dispatches": rows}
    with terminal("inbox") as screen:
        assert screen.end() == 0
        shown = plain(screen.shown)
        assert "abcd5555" in shown
        assert "aaaa7777" in shown
        assert "[bold]␛[2J" in shown.replace("\n", "")
        assert "\x1b" not in shown
        assert "\x1b[32m" in screen.shown
    with terminal("inbox", "--json") as screen:
        assert screen.end() == 0
        assert json.loads(screen.shown) == {"dispatches": rows}


WORDY = "Find out why the nightly build fails since Monday, mend it, and say in a few words what the reason was"
LONG = "https://example.org/" + "a" * 60


def whole_words(shown: str, columns: int, *texts: str) -> None:
    """No line is wider but for a word that is, and every word of `texts` stands in one piece."""
    for line in shown.splitlines():
        assert len(line) <= columns or len(line.split()) == 1, (columns, line)
    for word in " ".join(texts).split():
        assert word in shown, (columns, word, shown)


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_everything_is_read_at_any_width(cli: Cli, api: FakeApi, columns: int) -> None:
    """Seen to fail with cells of three characters, words cut at the edge, and the reply shown twice and as written."""
    scopes = {**edge()["scopes"], "paths": [str(Path.home() / "projects/parser")], "expires": "2099-11-28T18:49:46Z"}
    reply = f"# Done\n\nI **changed** two lines, see [the docs]({LONG}).\n\n- one `thing`\n- {WORDY}"
    said = [{"kind": "reasoning", "text": text, "attempt": 1} for text in (WORDY, reply)]
    ended = document(status="completed", direction="sent", task=WORDY, events=said, result=result(reply=reply))
    api["GET /v1/contacts"] = {"trust": [edge(scopes=scopes)]}
    api["GET /v1/dispatches"] = {"dispatches": [row(task=WORDY), row(SECOND, task=WORDY, status="completed")]}
    api[f"GET /v1/dispatches/{FIRST}"] = ended
    api.fails("GET /v1/approvals", 409, f"nothing pending: {WORDY}", f"see {LONG}")
    seen = {}
    for command in (["contacts"], ["inbox"], ["status", FIRST], ["approvals"]):
        with terminal(*command, columns=columns) as screen:
            assert screen.end() == (1 if command == ["approvals"] else 0)
            seen[command[0]] = plain(screen.shown)
    scope = "alice@example.org they → you active manual ~/projects/parser; ends 2099-11-28"
    whole_words(seen["contacts"], columns, scope, "peer" if columns == 140 else "direction verified")
    whole_words(seen["inbox"], columns, WORDY, "abcd5555 pending alice@example.org")
    whole_words(seen["approvals"], columns, WORDY, LONG)
    status = seen["status"]
    whole_words(status, columns, WORDY, "3 turns · $0.02 · 4 s")
    assert status.count("Done") == 1 and "# Done" not in status and "**" not in status and " • one thing" in status
    assert LONG[:20] in status and "\x1b]8" not in screen.shown
    if columns == 80:
        with terminal("status", FIRST, "--raw", columns=columns) as screen:
            assert screen.end() == 0 and "I **changed** two lines" in screen.shown


@pytest.mark.parametrize(("command", "direction", "who"), [("inbox", "received", "from"), ("sent", "sent", "to")])
def test_dispatches_are_a_table_where_it_fits(cli: Cli, api: FakeApi, command: str, direction: str, who: str) -> None:
    """Seen to fail with cards at 80 columns, for one long address or a run whose changes wait."""
    wide = "なぜビルドが失敗するのか調べて🎉ください。" * 3
    rows = [row(task=WORDY), row(SECOND, task=wide, status="completed", changes_waiting=1)]
    rows.append(row(TOKEN, peer="bartholomew.featherstonehaugh@subsidiary.research.example.com"))
    shown_at: dict[int, str] = {}
    for columns, listed in ((200, rows), (80, rows), (64, rows[:1]), (40, rows)):
        api["GET /v1/dispatches"] = {"dispatches": [each | {"direction": direction} for each in listed]}
        with terminal(command, columns=columns) as screen:
            assert screen.end() == 0
            shown_at[columns] = plain(screen.shown)
        first = shown_at[columns].splitlines()[0]
        assert first.split() == (["abcd5555"] if columns == 40 else ["id", "status", who, "created", "task"])
        for line in shown_at[columns].splitlines():
            assert layout.cells(line) <= columns or "featherstonehaugh@" in line, (columns, line)
    assert "bartholomew.featherstonehaugh@subsidiary.research.example.com" in shown_at[200]


def test_no_colour_when_nobody_wants_it(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    api["GET /v1/dispatches"] = {"dispatches": [document()]}
    with terminal("inbox") as screen:
        assert screen.end() == 0
        assert "\x1b[3" not in screen.shown


def test_choosing_a_scope(cli: Cli, api: FakeApi) -> None:
    granted = {"status": "accepted", "trust_link_id": TOKEN, "peer": "alice@example.org", "scopes": edge()["scopes"]}
    api["POST /v1/invitations/accept"] = lambda asked: granted if "tools" in asked.body else offer()
    with terminal("accept-invitation", TOKEN) as screen:
        assert "3  All: + Bash and every MCP server installed now (github)" in screen.until("Which? [1/2/3/4/5] ")
        screen.type("3\n")
        # Seen to fail while Enter was no answer, though the menu calls manual the default.
        screen.until("Approval mode? [manual/review/auto, Enter: manual] ")
        screen.type("\n")
        screen.until("Restrict to which folders?")
        screen.type("/srv/shop\n")
        assert "tulip-anvil 1234" in screen.until("Grant it? [y/N] ")
        screen.type("y\n")
        screen.until("alice@example.org may now dispatch to you")
        assert screen.end() == 0
    assert api.bodies("POST", "/v1/invitations/accept")[-1] == {
        "token": TOKEN,
        "tools": "Read,Glob,Grep,Write,Edit,Bash",
        "mcp_servers": "github",
        "approval": "manual",
        "paths": ["/srv/shop"],
        "confirm_unverified": True,
    }


def test_a_mistake_in_the_menu_costs_no_address(cli: Cli, api: FakeApi) -> None:
    """Seen to fail: one wrong word ended the command, and the address had to be pasted and answered anew."""
    granted = {"status": "accepted", "trust_link_id": TOKEN, "peer": "alice@example.org", "scopes": edge()["scopes"]}
    unknown = 422, {"error": {"code": 422, "message": "unknown tool `Reed`", "fix": "choose from Read"}}
    api["POST /v1/invitations/accept"] = lambda asked: (
        unknown if asked.body.get("tools") == "Reed" else granted if "tools" in asked.body else offer()
    )
    with terminal("accept-invitation", "-") as screen:
        screen.until("paste it and press Enter")
        screen.type(f"{TOKEN}\n")
        for tools in ("Reed", "Read"):
            screen.until("Which? [1/2/3/4/5] ")
            screen.type("4\n")
            screen.until("Tools, comma-separated: ")
            screen.type(f"{tools}\n")
            screen.until("MCP servers")
            screen.type("\n")
            screen.until("Approval mode?")
            screen.type("\n")
            screen.until("Restrict to which folders?")
            screen.type("\n")
            if tools == "Reed":
                screen.until("unknown tool `Reed`")
        screen.until("alice@example.org may now dispatch to you")
        assert screen.end() == 0


def test_a_wider_edge_says_what_would_run_unasked(cli: Cli, api: FakeApi) -> None:
    rule = {"id": 7, "tool": "Bash", "pattern": "rm -rf build", "reach": "exact", "created": "2026-11-01T00:00:00Z"}
    would_be = {"status": "confirmation_required", "rules": [rule]}
    api["GET /v1/trust/alice"] = edge()
    api["PATCH /v1/trust/alice"] = lambda asked: would_be if asked.body.get("unconfirmed") else edge()
    with terminal("trust", "edit", "alice", "--tools", "Read,Bash", "--remove-rule", "3") as screen:
        shown = screen.until("Grant it? [y/N] ")
        assert "Without asking, since you always allowed it: Bash(rm -rf build)" in " ".join(shown.split())
        screen.type("y\n")
        assert screen.end() == 0
    first, second = api.bodies("PATCH", "/v1/trust/alice")
    assert first == {"tools": "Read,Bash", "confirm_unverified": False, "unconfirmed": True}
    assert second == {"tools": "Read,Bash", "remove_rule": 3, "confirm_unverified": True}


def test_hosts_that_a_proxy_resolves_are_confirmed(cli: Cli, api: FakeApi) -> None:
    would_be = {"status": "confirmation_required", "by_proxy": ["a.example", "b.example"]}
    api["GET /v1/trust/alice"] = edge(verified=True)
    api["PATCH /v1/trust/alice"] = lambda asked: would_be if asked.body.get("unconfirmed") else edge()
    options = ("trust", "edit", "alice", "--network", "a.example,b.example", "--yes-by-proxy")
    for answer, code in (("n\n", 1), ("y\n", 0)):
        with terminal(*options, "a.example") as screen:
            shown = " ".join(screen.until("nevertheless? [y/N] ").split())
            assert "HTTP proxy resolves b.example, so dispatch cannot check where such a name leads" in shown
            screen.type(answer)
            assert screen.end() == code
    refused = cli(*options, "a.example", "--json")
    assert refused.code == 1 and "--yes-by-proxy b.example" in refused.document["error"]["fix"]
    assert cli(*options, "a.example,b.example").code == 0
    granted = [body for body in api.bodies("PATCH", "/v1/trust/alice") if not body.get("unconfirmed")]
    assert [body["confirm_by_proxy"] for body in granted] == [["a.example", "b.example"]] * 2


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"])
def test_anything_but_yes_grants_nothing(cli: Cli, api: FakeApi, answer: str) -> None:
    api["POST /v1/invitations/accept"] = offer()
    with terminal("accept-invitation", TOKEN, "--tools", "Bash") as screen:
        screen.until("Grant it? [y/N] ")
        screen.type(answer)
        screen.until("not granted")
        assert screen.end() == 1
    assert not [body for body in api.bodies("POST", "/v1/invitations/accept") if "tools" in body]


def test_declining_from_the_menu_and_leaving_it(cli: Cli, api: FakeApi) -> None:
    api["POST /v1/invitations/accept"] = offer()
    api["POST /v1/invitations/decline"] = {"status": "declined"}
    with terminal("accept-invitation", TOKEN) as screen:
        screen.until("Which?")
        screen.type("\x04")
        assert screen.end() == 130
    assert api.bodies("POST", "/v1/invitations/decline") == []
    with terminal("accept-invitation", TOKEN) as screen:
        screen.until("Which?")
        screen.type("5\n")
        screen.until("nothing was granted")
        assert screen.end() == 0
    assert api.bodies("POST", "/v1/invitations/decline") == [{"token": TOKEN}]


def test_a_killed_follower_leaves_the_run(cli: Cli, api: FakeApi) -> None:
    run = Run(api, approval())
    with terminal("accept", FIRST) as screen:
        screen.until("Your answer?")
        os.kill(screen.process.pid, signal.SIGKILL)
    assert run.answers == []


def test_the_first_login_asks_for_the_address(cli: Cli) -> None:
    """Seen to fail while `login` ended with "which address is yours?", also where it could ask."""
    with terminal("login", "--broker", "http://127.0.0.1:1", "--no-browser") as screen:
        screen.until("Your e-mail address: ")
        screen.type("alice\n")
        screen.until("'alice' is not an e-mail address")
        screen.until("Your e-mail address: ")  # again
        screen.type("alice@example.org\n")
        screen.until("can't reach broker http://127.0.0.1:1")
        assert screen.end() == 1


def test_a_login_without_a_broker_asks_for_one(cli: Cli) -> None:
    with terminal("login", "--no-browser") as screen:
        screen.until("The broker's address, https://…: ")
        screen.type("http://127.0.0.1:1\n")
        screen.until("Your e-mail address: ")
        screen.type("alice@example.org\n")
        screen.until("can't reach broker http://127.0.0.1:1")
        assert screen.end() == 1


def test_a_secret_that_is_typed_is_not_shown(cli: Cli) -> None:
    """Seen to fail with the key read as every other value is: the terminal shows what is typed."""
    with terminal("config", "set", "model.api_key", "-") as screen:
        screen.until("it is not shown): ")
        screen.type("sk-made-up-0123456789\n")
        assert screen.end() == 0
        assert "sk-made-up" not in screen.shown and "model.api_key = " in screen.shown
    assert "sk-made-up-0123456789" in cli.folder.config.read_text()
