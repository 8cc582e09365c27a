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

from tests.cli.conftest import Cli
from tests.cli.documents import FIRST, HOSTILE, SECOND, TOKEN, approval, document, edge, offer, result
from tests.cli.fake_api import Asked, FakeApi, Stream, page_of_calls
from tests.conftest import HANG

ROOT = Path(__file__).parents[2]
START = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from cli.main import main; main()"
"""Takes the terminal as its own first, so that Ctrl-C typed there is a signal to it."""


class Terminal:
    """A process whose three streams are a terminal; what it has shown is in `shown`."""

    def __init__(self, *args: str, columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *args],
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns)},
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


def test_each_answer_is_asked_and_sent(cli: Cli, api: FakeApi) -> None:
    calls = [approval(request=f"r-{number}") for number in range(1, 6)]
    run = Run(api, *calls)
    with terminal("accept", FIRST) as screen:
        for key, follow_up in (("1", ""), ("2", ""), ("3", ""), ("4", ""), ("6", "use the copy")):
            shown = plain(screen.until("Your answer? [1/2/3/4/5/6] "))
            assert "Write asks, in abcd5555   (118 s left)" in shown
            assert "file_path: notes.md" in shown
            # Seen to fail with "path:", below a `path:` of the input that names another place.
            assert "on this machine: /home/bob/shop/notes.md" in shown
            assert "+one" in shown
            assert "what this returns goes to alice@example.org" in shown
            assert "2  Always: store the rule Write(/home/bob/shop/notes.md)" in shown
            screen.type(f"{key}\n")
            if follow_up:
                screen.until("What should it know? ")
                screen.type(f"{follow_up}\n")
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
        shown = plain(screen.until("Your answer? [1/2/3/4/5/6] "))
        assert "2  Always: store the rule Bash(git log -3), or a wider one" in shown
        assert "from: alice@example.org; sandbox: full" in shown
        screen.type("2\n")
        shown = plain(screen.until("Which rule? [1/2] "))
        assert "2  Bash(git log), or with further words" in shown
        screen.type("2\n")
        screen.until("is a space.")
        assert screen.end() == 0
    assert run.answers == [{"decision": "allow", "grant": "always", "rule": 1}]


def test_declining_the_dispatch_ends_it_with_1(cli: Cli, api: FakeApi) -> None:
    """By the key that declines on the page, too. Seen to fail while it was 6 here, where 5 denied with a note."""
    run = Run(api, approval(rule_if_always=None), status="declined")
    with terminal("accept", FIRST) as screen:
        assert "Always" not in screen.until("Your answer? [1/3/4/5/6] ")
        screen.type("2\n")
        screen.until("please type one of 1, 3, 4, 5, 6")
        screen.until("Your answer?")
        screen.type("5\n")
        assert screen.end() == 1
    assert run.answers == [{"decision": "deny", "decline_dispatch": True}]


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
        screen.until("no answer: the call is denied when its time is over")
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
        screen.until("the run goes on: answer its calls with `dispatch accept abcd5555`")
        assert screen.end() == 130
    assert run.answers == []
    assert not any(asked.path.endswith("/cancel") for asked in api.asked)


def test_a_run_that_was_left_is_taken_up_again(cli: Cli, api: FakeApi) -> None:
    """Seen to fail with 409, "a dispatch that is running cannot be accepted": its calls had ids to copy by hand."""
    run = Run(api, approval())
    api[f"GET /v1/dispatches/{FIRST}"] = lambda _: (
        document(status="completed", result=result(status="completed")) if run.answers else document(status="running")
    )
    with terminal("accept", FIRST) as screen:
        screen.until("abcd5555 runs already")
        screen.until("Your answer?")
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
        "candidates": [{"cwd": "/code/shop", "reason": "named"}, {"cwd": "/code/shop2", "reason": "a near name"}],
    }
    ended = api.answers["GET", f"/v1/dispatches/{FIRST}"]
    assert callable(ended)
    documents: list[Callable[[Asked], Any]] = [lambda _: document(suggestion=suggestion), ended]

    def next_document(asked: Asked) -> Any:
        return documents.pop(0)(asked)

    api[f"GET /v1/dispatches/{FIRST}"] = next_document
    with terminal("accept", FIRST) as screen:
        assert "Find why the build fails" in screen.until("Where does it run? [1/2/0] ")
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
        screen.until("now waits for you in `dispatch approvals`")
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


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 200])
def test_a_table_is_read_at_any_width(cli: Cli, api: FakeApi, columns: int) -> None:
    """Words whole, but those of the longest cell. Seen to fail at 40, 60 and 80 with cells of three characters."""
    scopes = {**edge()["scopes"], "paths": ["/home/bob/projects/parser"], "expires": "2026-11-28T18:49:46Z"}
    api["GET /v1/contacts"] = {"trust": [edge(scopes=scopes)]}
    with terminal("contacts", columns=columns) as screen:
        assert screen.end() == 0
        shown = plain(screen.shown)
    for word in ("alice@example.org", "they → me", "active", "manual", "direction", "verified"):
        assert word in shown, shown
    assert max(map(len, shown.splitlines())) <= columns, shown


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
        screen.until("Approval? [manual/review/auto, Enter: manual] ")
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
            screen.until("Tools, with commas: ")
            screen.type(f"{tools}\n")
            screen.until("MCP servers")
            screen.type("\n")
            screen.until("Approval?")
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
