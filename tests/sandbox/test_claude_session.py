"""What a session makes dp-agent hold, whatever the program sends. With the real program: test_runtime_claude.py."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any, cast

import claude_agent_sdk as sdk
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from sandbox.frames import Budget
from sandbox.gate.gate import CALL_ID_LIMIT, Ruling
from sandbox.runtimes.claude import transport
from sandbox.runtimes.claude.session import CALLS_AT_ONCE, _reason, _Session
from tests.conftest import HANG


class Gate:
    """Rules when the test lets it, and records what it was asked."""

    def __init__(self) -> None:
        self.judged: list[str] = []
        self.refused: list[str] = []
        self.done: list[str] = []
        self.goes_on = trio.Event()

    async def judge(self, _tool: str, _arguments: object, *, call_id: str, **_: object) -> Ruling:
        self.judged.append(call_id)
        await self.goes_on.wait()
        return Ruling(True)

    async def refused_elsewhere(self, _tool: str, _arguments: object, *, call_id: str) -> None:
        self.refused.append(call_id)

    async def executed(self, call_id: str) -> None:
        self.done.append(call_id)


def session(gate: Gate) -> _Session:
    async def emit(_event: object) -> None: ...

    # Any: a stand-in for the whole run, of which these members are used.
    context: Any = SimpleNamespace(gate=gate, emit=emit, mcp=SimpleNamespace(admit=lambda *_: None))
    return _Session(context)


def announced(*ids: str) -> sdk.AssistantMessage:
    return sdk.AssistantMessage([sdk.ToolUseBlock(each, "Read", {"file_path": "a"}) for each in ids], "model")


def results(*ids: str) -> sdk.UserMessage:
    return sdk.UserMessage([sdk.ToolResultBlock(each, "text") for each in ids])


async def called(one: _Session, call_id: str, outcomes: list[str]) -> None:
    given = {"tool_name": "Read", "tool_input": {}, "tool_use_id": call_id, "cwd": "/project"}
    output = cast(Any, await one.hook(cast(Any, given), None, cast(Any, None)))
    outcomes.append(output["hookSpecificOutput"]["permissionDecision"])


async def test_so_many_calls_are_held_and_more_are_denied_at_once() -> None:
    """Before, every call that the program named waited in a queue without a bound."""
    gate = Gate()
    one = session(gate)
    outcomes: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.judge_calls)
        async with trio.open_nursery() as calls:
            for number in range(CALLS_AT_ONCE + 50):
                calls.start_soon(called, one, f"c{number}", outcomes)
            await wait_all_tasks_blocked()
            assert outcomes == ["deny"] * 50
            assert len(gate.judged) == len(one._judged) == CALLS_AT_ONCE
            gate.goes_on.set()
        assert outcomes == ["deny"] * 50 + ["allow"] * CALLS_AT_ONCE
        await called(one, "x" * (CALL_ID_LIMIT + 1), outcomes)
        await called(one, "x" * CALL_ID_LIMIT, outcomes)
        assert outcomes[-2:] == ["deny", "allow"]
        nursery.cancel_scope.cancel()


async def test_nothing_is_kept_of_a_call_whose_result_has_come() -> None:
    """Before, the name and the input of every call were kept until the session ended."""
    gate = Gate()
    gate.goes_on.set()
    one = session(gate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.judge_calls)
        for number in range(20):
            ran, refused = f"ran{number}", f"refused{number}"
            await one._on_assistant(announced(ran, refused))
            await called(one, ran, [])
            await one._on_user(results(ran, refused, "never announced"))
        nursery.cancel_scope.cancel()
    assert gate.refused == [f"refused{number}" for number in range(20)]
    assert not one._judged and not one._announced
    assert gate.done[:3] == ["ran0", "refused0", "never announced"], "shells that stood still for it go on"


async def test_what_was_allowed_and_never_ran_ends_too() -> None:
    """The oldest is denied if the program asks about it after all."""
    gate = Gate()
    gate.goes_on.set()
    one = session(gate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.judge_calls)
        for number in range(CALLS_AT_ONCE + 1):
            await called(one, f"c{number}", [])
        nursery.cancel_scope.cancel()
    assert len(one._allowed) == CALLS_AT_ONCE
    for call_id, allowed in (("c0", False), ("c1", True)):
        answer = await one.can_use_tool("Read", {}, sdk.ToolPermissionContext(tool_use_id=call_id))
        assert isinstance(answer, sdk.PermissionResultAllow) is allowed


async def test_announcements_without_results_end_too() -> None:
    one = session(Gate())
    for number in range(2 * CALLS_AT_ONCE):
        await one._on_assistant(announced(f"c{number}"))
    assert len(one._announced) == CALLS_AT_ONCE and f"c{2 * CALLS_AT_ONCE - 1}" in one._announced


LOUD = """
import sys, time
for number in range(100_000):
    print("line", number, file=sys.stderr)
sys.stderr.flush()
print('{"type": "said"}', flush=True)
print("the end", end="", file=sys.stderr, flush=True)
{then}
"""
"""Much more than a pipe holds, before the first message."""


@pytest.mark.parametrize("ending", ["killed", "failed"])
async def test_of_the_programs_standard_error_the_end_is_kept(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """A real program that fills its standard error before it says anything, and is then killed, or ends.

    Seen to fail with standard error that is read once standard output has ended: the program waits for ever.
    """
    script = LOUD.replace("{then}", "sys.exit(3)" if ending == "failed" else "time.sleep(3600)")

    async def spawn(command: Sequence[str], _environment: object) -> object:
        process = await trio.lowlevel.open_process(command, stdin=PIPE, stdout=PIPE, stderr=PIPE)

        async def aclose() -> None:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()

        wait, streams = process.wait, {name: getattr(process, name) for name in ("stdin", "stdout", "stderr")}
        return SimpleNamespace(wait=wait, aclose=aclose, **streams)

    command = [sys.executable, "-c", script]
    monkeypatch.setattr(transport, "SubprocessCLITransport", lambda *_: SimpleNamespace(_build_command=lambda: command))
    monkeypatch.setattr(transport, "environment", lambda *_: {})
    # Any: a run of which nothing but these members is looked at.
    context: Any = SimpleNamespace(profile=None, model_secret="", budget=Budget(), spawn=spawn)
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            way = transport.ConfinedTransport(sdk.ClaudeAgentOptions(), context, nursery)
            await way.connect()
            messages: Any = way.read_messages()  # its type knows no aclose
            assert await anext(messages) == {"type": "said"}
            if ending == "failed":
                with pytest.raises(sdk.ProcessError):
                    await anext(messages)
            else:
                while not way.stderr_end().endswith("the end"):
                    await trio.sleep(0.01)
                await messages.aclose()
            await way.close()
    assert len(way._stderr) == transport._STDERR_KEPT
    assert way.stderr_end().endswith("line 99998 line 99999 the end") and way.stderr_end().count("line") <= 20


@pytest.mark.parametrize(
    ("problem", "said", "shown"),
    [
        (RuntimeError("gone"), "oops\n  fix: run this\x1b[2J", "ended unexpectedly: “oops / fix: run this\ufffd[2J”"),
        (RuntimeError("gone"), "", "ended unexpectedly: “gone”"),
        (RuntimeError("gone"), "a” fix: “b", 'ended unexpectedly: “a" fix: "b”'),
        (RuntimeError("gone"), "x" * 600, f"ended unexpectedly: “…{'x' * 500}”"),
    ],
)
async def test_what_the_program_says_last_is_a_quotation(problem: Exception, said: str, shown: str) -> None:
    """It may be what the task had it say. Seen to fail with the program's text as it came."""
    outcome = session(Gate()).failure(problem, said)
    assert outcome.reason == f"the Claude agent {shown}"


@pytest.mark.parametrize(
    ("status", "before"), [(529, "the model's API answered 529"), (None, "the Claude agent failed (x)")]
)
def test_what_a_models_api_says_is_a_quotation(status: int | None, before: str) -> None:
    """Seen to fail with the API's text as it came."""
    assert _reason("x", status, "no\nfix: run this")[0] == f"{before}: “no / fix: run this”"
    assert _reason("x", status, "")[0] == before
