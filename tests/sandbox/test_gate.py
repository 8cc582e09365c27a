"""The gate: who is asked, one at a time, for how long, and what an answer changes."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sandbox import frames
from sandbox.gate import gate, preview
from sandbox.gate.gate import CHANGED, DENIALS_IN_A_ROW, Gate, Ruling, _Asked
from sandbox.gate.paths import opener, resolver
from sandbox.policy.decision import GRANTABLE_TOOLS, Scope
from tests.conftest import HANG

Respond = Callable[["Desk", frames.Call], Awaitable[None] | None]


class Desk:
    """The node and the person behind it, as the gate sees them: it records what is asked and answers by
    `respond`.
    """

    def __init__(self, project: Path, *, respond: Respond, **change: Any) -> None:
        places = {"/project": project / "shop", "/workspace": project / "workspace"}
        for place in places.values():
            place.mkdir(exist_ok=True)
        scope = Scope(
            tools=GRANTABLE_TOOLS,
            roots=tuple(map(str, places.values())),
            workspace=str(places["/workspace"]),
            project=str(places["/project"]),
            cwd="/project",
            home="/home/agent",
        )
        self.shop = places["/project"]
        self.calls: list[frames.Call] = []
        self.closed: list[str] = []
        self.trace: list[frames.TraceEvent] = []
        self.open = 0
        self.most_open = 0
        self._respond = respond
        self.gate = Gate(
            replace(scope, **change),
            resolve=resolver(Places(places)),
            open_file=opener(Places(places)),
            send=self._send,
            emit=self._emit,
        )

    async def _send(self, frame: frames.ToNode) -> None:
        frames.encode(frame)
        if isinstance(frame, frames.CallClosed):
            self.closed.append(frame.call_id)
        if isinstance(frame, frames.Call):
            self.calls.append(frame)
            self.open += frame.verdict == "ask"
            self.most_open = max(self.open, self.most_open)
            waiting = self._respond(self, frame)
            if waiting is not None:
                await waiting

    async def _emit(self, event: frames.TraceEvent) -> None:
        frames.encode(frames.TraceEntry(event=event))
        self.trace.append(event)
        self.open -= isinstance(event, frames.Approval) and event.by in ("person", "timeout")

    def answer(self, call: frames.Call, allow: bool, by: frames.By = "person", **more: Any) -> None:
        assert self.gate.resolve_call(frames.Verdict(call_id=call.call_id, allow=allow, by=by, **more))

    async def bash(self, command: str, call_id: str = "c") -> Ruling:
        return await self.gate.judge("Bash", {"command": command}, call_id=call_id)

    @property
    def approvals(self) -> list[tuple[str, str]]:
        return [(event.outcome, event.by) for event in self.trace if isinstance(event, frames.Approval)]


class Places:
    """Inside paths and what they are on this machine. `views`: what is seen there instead, by the same inside path."""

    def __init__(self, real: Mapping[str, Path], views: Mapping[str, Path] | None = None) -> None:
        self._real = real
        self._views = views or {}

    def outside(self, path: Path) -> Path | None:
        for place, real in self._real.items():
            if path.is_relative_to(place):
                return real / path.relative_to(place)
        return None

    def inside(self, path: Path) -> Path | None:
        for place, real in self._real.items():
            if path.is_relative_to(real):
                return place / path.relative_to(real)
        return None

    def link(self, path: Path) -> str | None:
        return "/project" if path == Path("/by-link") else None

    def source(self, path: Path) -> tuple[Path, Path] | None:
        for place, real in {**self._real, **self._views}.items():
            if path.is_relative_to(place):
                return real, path.relative_to(place)
        return None


def says(allow: bool, **more: Any) -> Respond:
    return lambda desk, call: desk.answer(call, allow, **more)


def silent(desk: Desk, call: frames.Call) -> None:
    return None


async def test_an_allowed_call_is_recorded_with_who_allowed_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=says(True))
    assert await desk.bash("make test") == Ruling(True, input={"command": "make test"})
    call = desk.trace[0]
    assert isinstance(call, frames.ToolCall) and call.input == {"command": "make test"}
    assert desk.approvals == [("allowed", "person")]
    assert desk.calls[0].rule_if_always == frames.Rule(tool="Bash", pattern="make test")
    assert desk.calls[0].verdict == "ask" and desk.calls[0].answer_seconds == 120


async def test_a_denial_reaches_the_agent_with_its_note(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=says(False, note="use the other branch"))
    ruling = await desk.bash("git push")
    assert not ruling.allow and "use the other branch" in ruling.reason
    assert isinstance(desk.trace[-1], frames.Approval) and desk.trace[-1].note == "use the other branch"


async def test_what_the_scope_denies_is_never_asked(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=says(True), tools=frozenset({"Read"}))
    for tool, arguments in (
        ("Bash", {"command": "ls"}),
        ("Task", {"prompt": "x"}),
        ("Read", {"file_path": "/etc/passwd"}),
        ("Read", {"file_path": "\ud800"}),
    ):
        assert not (await desk.gate.judge(tool, arguments, call_id="c")).allow
    assert desk.calls == []
    assert desk.approvals == [("denied", "scope")] * 4


async def test_an_automatic_edge_asks_nobody_but_the_edge(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=says(True, by="edge"), approval="auto")
    assert (await desk.bash("ls")).allow
    assert [call.verdict for call in desk.calls] == ["allow"]
    assert desk.approvals == [("allowed", "scope")]
    gone = Desk(tmp_path, respond=says(False, by="edge"), approval="auto")
    assert not (await gone.bash("ls")).allow
    assert gone.approvals == [("denied", "edge")]


async def test_nobody_answers_for_120_seconds(tmp_path: Path, autojump_clock: MockClock) -> None:
    desk = Desk(tmp_path, respond=silent)
    before = trio.current_time()
    ruling = await desk.bash("ls", "c1")
    assert trio.current_time() - before == pytest.approx(120)
    assert not ruling.allow and "120 s" in ruling.reason
    assert desk.approvals == [("unanswered", "timeout")]
    assert desk.closed == ["c1"]
    assert not desk.gate.resolve_call(frames.Verdict(call_id="c1", allow=True, by="person")), (
        "a late answer finds nothing"
    )


async def test_an_answer_just_in_time_counts_and_only_the_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def late(desk: Desk, call: frames.Call) -> None:
        async def answer() -> None:
            await trio.sleep(119)
            desk.answer(call, True)
            assert not desk.gate.resolve_call(frames.Verdict(call_id=call.call_id, allow=False, by="person"))

        nursery.start_soon(answer)

    async with trio.open_nursery() as nursery:
        desk = Desk(tmp_path, respond=late)
        assert (await desk.bash("ls")).allow
    assert desk.closed == []


async def test_one_question_at_a_time_in_full(tmp_path: Path, autojump_clock: MockClock) -> None:
    desk = Desk(tmp_path, respond=silent)
    before = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(desk.bash, f"make {number}", str(number))
    assert desk.most_open == 1
    assert trio.current_time() - before == pytest.approx(360)


async def test_allowed_calls_do_not_wait_behind_a_question(tmp_path: Path) -> None:
    rule = frames.Rule(tool="Bash", pattern="ls")
    asked = trio.Event()
    desk = Desk(
        tmp_path,
        respond=lambda desk, call: desk.answer(call, True, "edge") if call.verdict == "allow" else asked.set(),
        rules=frozenset({rule}),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.bash, "make", "asks")
        await asked.wait()
        assert (await desk.bash("ls", "ruled")).allow
        assert desk.approvals == [("allowed", "rule")]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("grant", "then"), [("once", "person"), ("session", "session"), ("always", "rule")])
async def test_how_far_a_grant_reaches(tmp_path: Path, grant: frames.Grant, then: str) -> None:
    desk = Desk(tmp_path, respond=says(True, grant=grant))
    for command in ("make test", "make test", "make test2"):
        assert (await desk.bash(command)).allow
    assert desk.approvals == [("allowed", "person"), ("allowed", then), ("allowed", "person")]
    elsewhere = Desk(tmp_path, respond=says(True))
    await elsewhere.bash("make test")
    assert elsewhere.calls[0].verdict == "ask", "no grant outlives its run here; the node stores an always"


async def test_a_person_may_pick_a_wider_rule_of_those_that_are_offered(tmp_path: Path) -> None:
    prefix = frames.Rule(tool="Bash", pattern="git log", reach="prefix")
    desk = Desk(tmp_path, respond=says(True, grant="session", rule=prefix))
    for command in ("git log -3", "git log --stat", "git log; ls"):
        await desk.bash(command)
    assert prefix in desk.calls[0].rule_choices
    assert desk.calls[0].rule_choices[0] == desk.calls[0].rule_if_always
    assert desk.approvals == [("allowed", "person"), ("allowed", "session"), ("allowed", "person")]
    other = Desk(tmp_path, respond=says(True, grant="always", rule=prefix))
    for command in ("make test", "make test", "git log"):
        await other.bash(command)
    assert other.approvals == [("allowed", "person"), ("allowed", "rule"), ("allowed", "person")], "it was not offered"


async def test_a_folder_rule_ends_at_the_folder(tmp_path: Path) -> None:
    async def respond(desk: Desk, call: frames.Call) -> None:
        first = len(desk.calls) == 1
        desk.answer(call, first, grant="always" if first else None, rule=call.rule_choices[-1] if first else None)

    (tmp_path / "shop" / "docs").mkdir(parents=True)
    (tmp_path / "shop" / "docs" / "out").symlink_to("../secret")
    (tmp_path / "shop" / "secret").write_text("x")
    desk = Desk(tmp_path, respond=respond)
    for number, path in enumerate(["docs/a", "docs/sub/b", "docs/out", "docs/../secret", "docs2", "./docs/./c"]):
        await desk.gate.judge("Read", {"file_path": path}, call_id=str(number))
    folder = frames.Rule(tool="Read", pattern=str(tmp_path / "shop" / "docs"), reach="folder")
    assert desk.calls[0].rule_choices[1] == folder
    assert [call.verdict for call in desk.calls] == ["ask", "allow", "ask", "ask", "ask", "allow"]


async def test_a_rule_that_the_edge_no_longer_has_asks_again(tmp_path: Path) -> None:
    """Seen to fail with a gate that takes the node's word for a denial, and with one that keeps the rule."""
    gone = frames.Rule(tool="Bash", pattern="make")
    kept = frames.Rule(tool="Bash", pattern="make", reach="prefix")

    def respond(desk: Desk, call: frames.Call) -> None:
        if call.verdict == "allow" and call.by == "rule":
            desk.answer(call, False, by="edge", withdrawn=call.covered_by)
        else:
            desk.answer(call, call.verdict == "ask")

    desk = Desk(tmp_path, respond=respond, rules=frozenset({gone, kept}))
    assert (await desk.bash("make")).allow
    assert [(call.verdict, set(call.covered_by)) for call in desk.calls] == [("allow", {gone, kept}), ("ask", set())]
    assert (await desk.bash("make all")).allow and desk.calls[-1].verdict == "ask", "both are forgotten"
    assert desk.approvals == [("allowed", "person")] * 2 and desk.most_open == 1


async def test_a_rule_is_withdrawn_by_its_name_or_the_call_is_denied(tmp_path: Path) -> None:
    """A verdict that withdraws nothing of what the gate has is a denial, not a call without an end."""
    rule = frames.Rule(tool="Bash", pattern="make")
    other = frames.Rule(tool="Bash", pattern="made")
    desk = Desk(
        tmp_path,
        respond=lambda desk, call: desk.answer(call, False, by="edge", withdrawn=[other]),
        rules=frozenset({rule}),
    )
    assert not (await desk.bash("make")).allow
    assert len(desk.calls) == 1 and desk.approvals == [("denied", "edge")]


async def test_a_grant_settles_the_same_question_that_was_waiting(tmp_path: Path) -> None:
    async def respond(desk: Desk, call: frames.Call) -> None:
        await trio.testing.wait_all_tasks_blocked()
        desk.answer(call, True, grant="session")

    desk = Desk(tmp_path, respond=respond)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(desk.bash, "make", str(number))
    assert [call.verdict for call in desk.calls] == ["ask", "allow", "allow"]


async def test_five_denials_by_a_person_in_a_row_end_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=lambda desk, call: desk.answer(call, call.input["command"] == "yes"))
    for command in ["no"] * 4 + ["yes"] + ["no"] * 4:
        await desk.bash(command)
    assert not desk.gate.tripped.is_set(), "an allowed call starts the count anew"
    await desk.bash("no")
    assert desk.gate.tripped.is_set()
    asked = len(desk.calls)
    assert not (await desk.bash("yes")).allow
    assert len(desk.calls) == asked


async def test_silence_is_not_a_persons_denial(tmp_path: Path, autojump_clock: MockClock) -> None:
    desk = Desk(tmp_path, respond=silent)
    for _ in range(DENIALS_IN_A_ROW + 1):
        await desk.bash("ls")
    assert not desk.gate.tripped.is_set()


async def test_who_denied_is_said_and_only_a_persons_denials_count(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=says(False, by="edge"))
    for _ in range(DENIALS_IN_A_ROW + 1):
        ruling = await desk.bash("make")
        assert ruling.reason == "Denied by the gate: this machine denied this call."
    assert not desk.gate.tripped.is_set()
    person = Desk(tmp_path, respond=says(False))
    assert (await person.bash("make")).reason == "Denied by the gate: the person at this machine denied this call."


async def test_a_call_that_nobody_was_asked_about_ends_no_row_of_denials(tmp_path: Path) -> None:
    ruled = frozenset({frames.Rule(tool="Bash", pattern="ls")})
    desk = Desk(
        tmp_path, rules=ruled, respond=lambda desk, call: desk.answer(call, call.verdict == "allow", grant="session")
    )
    for command in ["make"] * (DENIALS_IN_A_ROW - 1) + ["ls", "make"]:
        await desk.bash(command)
    assert desk.gate.tripped.is_set()


async def test_only_an_answer_to_a_question_grants_anything(tmp_path: Path) -> None:
    """What the node says with a call that was allowed already is no grant."""
    desk = Desk(tmp_path, respond=says(True, grant="always"), approval="auto")
    await desk.bash("make")
    approval = desk.trace[-1]
    assert isinstance(approval, frames.Approval) and approval.grant is None


async def test_a_grant_of_a_call_without_a_rule_stores_none(tmp_path: Path) -> None:
    """As for a tool that changed: what is asked again is asked whole."""
    for grant in ("session", "always"):
        desk = Desk(tmp_path, respond=says(True, grant=grant), mcp_tools=frozenset({"mcp__mail__send"}))
        asked = _Asked("mcp__mail__send", {}, "c", "c", None, None)
        decision = desk.gate._decide(asked)
        await desk.gate._rule(replace(decision, rule=None, choices=()), asked)
        assert desk.gate._decide(asked).verdict == "ask"


async def test_a_changed_tool_is_asked_about_until_a_person_agrees(tmp_path: Path) -> None:
    tools = ("mcp__mail__send", "mcp__mail__list")
    desk = Desk(
        tmp_path,
        respond=lambda desk, call: desk.answer(
            call, len(desk.calls) != 1, by="person" if call.verdict == "ask" else "edge"
        ),
        approval="auto",
        mcp_tools=frozenset(tools),
        changed=dict.fromkeys(tools, "aa"),
    )
    for tool in (tools[0], tools[0], tools[0], tools[1]):
        await desk.gate.judge(tool, {}, call_id="c")
    assert [call.verdict for call in desk.calls] == ["ask", "ask", "allow", "ask"]
    assert [call.mcp_pin for call in desk.calls] == ["aa", "aa", None, "aa"]
    assert [CHANGED in call.unusual for call in desk.calls] == [True, True, False, True]


async def test_only_what_writes_is_shown_as_a_diff(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=says(True))
    looked: list[str] = []
    (desk.shop / "a").write_text("x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "diff", lambda tool, *_: looked.append(tool))
        for tool, arguments in (
            ("Read", {"file_path": "a"}),
            ("Bash", {"command": "ls"}),
            ("Write", {"file_path": "a", "content": ""}),
        ):
            await desk.gate.judge(tool, arguments, call_id="c")
    assert looked == ["Write", "Write"], "before the answer, and when it is about to run"


async def test_a_diff_that_does_not_end_delays_no_cancel(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=says(True))
    begun, released, ended = trio.Event(), threading.Event(), threading.Event()
    token = trio.lowlevel.current_trio_token()

    def stuck(*_: object) -> None:
        token.run_sync_soon(begun.set)
        released.wait(HANG)
        ended.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "diff", stuck)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(desk.gate.judge, "Write", {"file_path": "a", "content": ""}, call_id="c"))
                await begun.wait()
                nursery.cancel_scope.cancel()
            assert not ended.is_set()
        finally:
            released.set()
    assert desk.calls == []


async def test_what_the_runtime_refused_is_in_the_trace(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=says(True))
    await desk.gate.refused_elsewhere("Bash", {"command": "a & b"}, call_id="c")
    call, approval = desk.trace
    assert isinstance(call, frames.ToolCall) and (call.tool, call.input) == ("Bash", {"command": "a & b"})
    assert isinstance(approval, frames.Approval) and (approval.outcome, approval.by) == ("denied", "scope")
    assert desk.calls == []


async def test_calls_under_one_id_get_answers_of_their_own(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=lambda desk, call: desk.answer(call, call.input["command"] == "one"))
    assert (await desk.bash("one", "same")).allow
    assert not (await desk.bash("two", "same")).allow
    await desk.bash("x", "y" * 1000)
    assert [call.call_id for call in desk.calls][:2] == ["same", "same#2"]
    await desk.bash("x", "")
    assert desk.calls[-1].call_id == "call"


async def test_a_run_makes_so_many_calls_and_leaves_no_trace_of_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "CALLS_OF_A_RUN", 3)
    desk = Desk(tmp_path, respond=says(True), approval="auto")
    assert [(await desk.bash("ls", str(number))).allow for number in range(5)] == [True] * 3 + [False] * 2
    await desk.gate.refused_elsewhere("Bash", {"command": "ls"}, call_id="6")
    calls = [event.call_id for event in desk.trace if isinstance(event, frames.ToolCall)]
    assert calls == list(desk.gate._seen) == ["0", "1", "2"]
    assert len(desk.calls) == 3


async def test_input_that_nobody_could_be_shown_is_denied_and_recorded(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    desk = Desk(tmp_path, respond=says(True), approval="auto")
    for extra in ("x" * 2_000_001, "\ud800", deep):
        ruling = await desk.gate.judge("Bash", {"command": "ls", "extra": extra}, call_id="c")
        assert not ruling.allow and "cannot be shown" in ruling.reason
    assert desk.calls == [] and desk.approvals == [("denied", "scope")] * 3


# --- what the person sees -----------------------------------------------------------------------------------


async def test_a_write_is_shown_as_a_diff_at_its_real_path(tmp_path: Path) -> None:
    desk = Desk(tmp_path, respond=says(True))
    (desk.shop / "price.py").write_text("a = 1\nb = 2\n")
    await desk.gate.judge("Write", {"file_path": "price.py", "content": "a = 1\nb = 3\n"}, call_id="1")
    edit = {"file_path": "price.py", "old_string": "= 2", "new_string": "= 4"}
    await desk.gate.judge("Edit", edit, call_id="2")
    written, edited = desk.calls
    assert written.resolved_path == str(desk.shop / "price.py")
    assert written.diff is not None and "-b = 2\n+b = 3" in written.diff
    assert edited.diff is not None and "-b = 2\n+b = 4" in edited.diff


async def test_links_are_denied_or_shown_by_their_target(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, respond=says(True))
    (tmp_path / "key").write_text("secret")
    (desk.shop / "out").symlink_to(tmp_path / "key")
    (desk.shop / "up").symlink_to("../key")
    (desk.shop / "loop").symlink_to("loop")
    (desk.shop / "in").symlink_to("/workspace/report")
    for name in ("out", "up", "loop"):
        assert not (await desk.gate.judge("Write", {"file_path": name, "content": ""}, call_id="1")).allow
    assert desk.calls == []
    await desk.gate.judge("Write", {"file_path": "in", "content": "x"}, call_id="2")
    assert desk.calls[0].resolved_path == str(tmp_path / "workspace" / "report")


def test_as_many_links_are_followed_as_the_kernel_does(tmp_path: Path) -> None:
    resolve = resolver(Places({"/project": tmp_path}))
    (tmp_path / "0").write_text("x")
    for number in range(41):
        (tmp_path / str(number + 1)).symlink_to(str(number))
    assert resolve("/project/40") == str(tmp_path / "0")
    assert resolve("/by-link/0") == str(tmp_path / "0"), "a link of the sandbox's own"
    assert resolve("/project/41") is None
    assert resolve("/elsewhere") is None


def test_a_link_that_climbs_is_followed_to_its_end(tmp_path: Path) -> None:
    resolve = resolver(Places({"/project": tmp_path}))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to(".././b//c")
    assert resolve("/project/a/up/d") == str(tmp_path / "b" / "c" / "d")


def test_a_diff_never_reads_through_a_link_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    (tmp_path / "folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder/key", "pipe", "."):
        shown = preview.diff("Write", {"content": "x"}, f"{tmp_path}/{name}", opener(Places({"/project": tmp_path})))
        assert shown is not None and "secret" not in shown and shown.startswith("(")
    (tmp_path / "big").write_bytes(b"x" * (preview.DIFF_LIMIT + 1))
    shown = preview.diff("Write", {"content": "x"}, str(tmp_path / "big"), opener(Places({"/project": tmp_path})))
    assert shown == "(the change cannot be shown: the file is larger than 262,144 bytes)"


@pytest.mark.parametrize(
    ("command", "mark"),
    [
        ("rm -rf build", "deletes"),
        ("find . -name '*.o' -delete", "deletes"),
        ("git reset --hard", "deletes"),
        ("curl https://example.org", "network"),
        ("git push origin main", "network"),
        ("exec 3<>/dev/tcp/10.0.0.1/80", "network"),
        ("cat ../other/x", "outside"),
        ("cat ~/.ssh/id_rsa", "outside"),
        ("cat </etc/passwd", "outside"),
    ],
)
async def test_what_is_unusual_is_marked(tmp_path: Path, command: str, mark: str) -> None:
    desk = Desk(tmp_path, respond=says(True))
    await desk.bash(command)
    assert any(mark in phrase for phrase in desk.calls[0].unusual), desk.calls[0].unusual


@pytest.mark.parametrize("command", ["make test", "grep -rn '/x' src", "ls /project /workspace/out", "python3 a.py"])
async def test_ordinary_commands_are_not_marked(tmp_path: Path, command: str) -> None:
    desk = Desk(tmp_path, respond=says(True))
    await desk.bash(command)
    assert desk.calls[0].unusual in ([], ["outside the project folder"] if "'/x'" in command else [])


# -- views ------------------------------------------------------------------------------------------------------------


def view_of(tmp_path: Path) -> tuple[Places, Path, Path]:
    """(places, original, view) of a project that the run sees through a view."""
    original, view = tmp_path / "home/shop", tmp_path / "runs/1/views/1/merged"
    for folder in (original, view):
        folder.mkdir(parents=True)
    return Places({"/project": original}, {"/project": view}), original, view


def test_a_person_is_shown_the_originals_path_and_what_the_run_sees(tmp_path: Path) -> None:
    """Seen to fail with the original read."""
    places, original, view = view_of(tmp_path)
    (original / "a").write_text("old\n")
    (view / "a").write_text("the run's\n")
    (view / "link").symlink_to("a")
    resolve = resolver(places)
    assert resolve("/project/link") == resolve("/project/a") == str(original / "a")
    shown = preview.diff("Write", {"content": "new\n"}, str(original / "a"), opener(places))
    assert shown is not None and "-the run's" in shown and f"+++ {original}/a" in shown and "old" not in shown
    (original / "only").write_text("not in the view")
    assert preview.diff("Write", {"content": ""}, str(original / "only"), opener(places)) == "(a new file, empty)"


def test_links_of_a_view_lead_where_they_lead_inside(tmp_path: Path) -> None:
    """Seen to fail with links followed on this machine: the text of one outside steered the path."""
    places, original, view = view_of(tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "next").symlink_to("/project/misled")
    (secret / "key").write_text("secret")
    (view / "out").symlink_to(secret)
    (view / "up").symlink_to("../../../../home")
    (original / "theirs").symlink_to("a")
    resolve = resolver(places)
    assert resolve("/project/out/next") is None and resolve("/project/up/shop") is None
    assert resolve("/project/theirs") == str(original / "theirs"), "the original's links are not the run's"
    for path in (original / "out/key", original / "out", view / "a", secret / "key"):
        shown = preview.diff("Write", {"content": "x"}, str(path), opener(places))
        assert shown is not None and "secret" not in shown.replace(str(secret), "")


def test_a_folder_swapped_for_a_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    """Seen to fail with links read by their paths on this machine: one outside steered the path."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/link").symlink_to("/project/misled")
    _, original, view = view_of(tmp_path)
    (view / "sub").mkdir()

    class Swapping(Places):
        """The run exchanges the folder between two steps."""

        def source(self, path: Path) -> tuple[Path, Path] | None:
            if path == Path("/project/sub/link"):
                (view / "sub").rmdir()
                (view / "sub").symlink_to(tmp_path / "secret")
            return super().source(path)

    resolve = resolver(Swapping({"/project": original}, {"/project": view}))
    assert resolve("/project/sub/link") == str(original / "sub/link")


def test_a_view_that_swaps_folders_for_links_gives_nothing_away(tmp_path: Path) -> None:
    places, original, view = view_of(tmp_path)
    secret, aside = tmp_path / "secret", view / "aside"
    secret.mkdir()
    (secret / "key").write_text("secret")
    (secret / "link").symlink_to("/project/misled")
    (view / "sub").mkdir()
    (view / "sub/key").write_text("plain")
    aside.symlink_to(secret)
    ended = threading.Event()
    library = ctypes.CDLL(None, use_errno=True)
    exchanges = 0

    def swap() -> None:
        nonlocal exchanges
        while not ended.is_set():
            exchanges += library.renameat2(-100, os.fsencode(view / "sub"), -100, os.fsencode(aside), 2) == 0

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        resolve, open_file = resolver(places), opener(places)
        while exchanges < 100:
            shown = preview.diff("Write", {"content": "x"}, str(original / "sub/key"), open_file)
            assert shown is not None and "-secret" not in shown
            assert resolve("/project/sub/link") in (None, str(original / "sub/link"))
    finally:
        ended.set()
        swapping.join()
