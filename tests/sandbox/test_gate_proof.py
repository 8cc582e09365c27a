"""The gate's proof: it passes with the real agent program, and finds out one that does not ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox import frames
from sandbox.confinement import Root, bubblewrap
from sandbox.errors import SandboxError
from sandbox.gate.gate import Ruling
from sandbox.model_api.anthropic.api import AnthropicMessages
from sandbox.model_api.anthropic.scripted_model import ScriptedModel
from sandbox.model_api.interface import ModelApi
from sandbox.runtimes import gate_proof
from sandbox.runtimes.claude import session
from sandbox.runtimes.claude.runtime import GATE_SESSION, ClaudeRuntime
from sandbox.runtimes.runtime import GateSession, Outcome, RunContext, Runtime, Task
from sandbox.runtimes.scripted import runtime
from tests.sandbox.node import dp_agent, start


async def test_the_real_program_asks_before_every_call_and_is_proven_once(tmp_path: Path) -> None:
    model = ScriptedModel([{"text": "Hello."}], key="k")
    started: list[frames.Started] = []
    async with model.running():
        for number, known in enumerate(["", None]):
            folder = tmp_path / str(number)
            folder.mkdir()
            given = started[-1].gate_key if known is None else known
            begin = start(
                folder, runtime="claude", model=frames.Model(base_url=model.url, api_key="k"), gate_proven=given
            )
            async with dp_agent() as node:
                assert (await node.run(begin)).status == "completed"
            started.append(next(frame for frame in node.seen if isinstance(frame, frames.Started)))
            assert (folder / "run" / "gate" / "workspace" / "allowed").exists() is (known is not None)
            assert not (folder / "run" / "gate" / "workspace" / "denied").exists()
            assert started[-1].sandbox.gate == "proven" and node.calls == [], "the proof's calls are nobody's to see"
    assert len({frame.gate_key for frame in started}) == 1


async def test_a_program_that_skips_the_hook_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`can_use_tool` denies what it is asked about; the pinned program does not ask it about what only reads."""
    options = session._options

    def without_hook(*given: Any) -> Any:
        return replace(options(*given), hooks=None)

    monkeypatch.setattr(session, "_options", without_hook)
    with pytest.raises(SandboxError) as refused:
        await gate_proof.prove(ClaudeRuntime(), bubblewrap, tmp_path / "gate")
    assert refused.value.code == 503 and "did not see Agent" in refused.value.message and refused.value.fix
    assert "Bash cat" in refused.value.message


@pytest.mark.long
async def test_a_sub_agent_that_nobody_asked_about_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook is there, but not for sub-agents. Seen to fail without the call of one among the proof's calls."""
    options = session._options

    def hook_of_some(*given: Any) -> Any:
        made = options(*given)
        assert made.hooks is not None
        return replace(made, hooks={"PreToolUse": [replace(made.hooks["PreToolUse"][0], matcher="Bash|Read|Write")]})

    monkeypatch.setattr(session, "_options", hook_of_some)
    with pytest.raises(SandboxError) as refused:
        await gate_proof.prove(ClaudeRuntime(), bubblewrap, tmp_path / "gate")
    assert refused.value.message.endswith(f"did not see Agent {GATE_SESSION.errand}")


@pytest.mark.long
async def test_a_sub_agent_that_begins_though_denied_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls would all meet the gate, but it began. Seen to fail without looking for its errand in the model's
    requests.
    """
    rule = session._Session._judge

    async def passing_sub_agents(session: Any, pending: Any) -> None:
        await rule(session, pending)
        if pending.call["tool_name"] == "Agent":
            pending.ruling = Ruling(True, input=pending.call["tool_input"])

    monkeypatch.setattr(session._Session, "_judge", passing_sub_agents)
    with pytest.raises(SandboxError) as refused:
        await gate_proof.prove(ClaudeRuntime(), bubblewrap, tmp_path / "gate")
    assert "denied was executed" in refused.value.message


class Program:
    """A made-up agent program: asks about what `asks` says, does what `does` says, ends as `outcome`."""

    name = "made-up"
    model_api: ModelApi | None = AnthropicMessages()
    gate_session: GateSession | None = GATE_SESSION

    def __init__(self, *, asks: bool = True, does: str = "allowed", outcome: Outcome | None = None) -> None:
        self._asks = asks
        self._does = does
        self._outcome = outcome or Outcome("completed")

    def version(self) -> str:
        return "1"

    def programs(self) -> tuple[Root, ...]:
        return ()

    def prepare(self) -> None:
        pass

    async def run(self, task: Task, context: RunContext) -> Outcome:
        for number, (tool, given) in enumerate((*GATE_SESSION.denied, GATE_SESSION.allowed)):
            if self._asks:
                await context.gate.judge(tool, given, call_id=str(number))
        for name in self._does.split():
            (context.profile.workspace / name).touch()
        return self._outcome


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (Program(asks=False), "did not see"),
        (Program(does="allowed denied"), "denied was executed"),
        (Program(does=""), "allowed was not executed"),
        (Program(outcome=Outcome("failed", reason="it broke")), "it broke"),
    ],
)
async def test_what_a_proof_refuses(tmp_path: Path, program: Runtime, said: str) -> None:
    with pytest.raises(SandboxError) as refused:
        await gate_proof.prove(program, bubblewrap, tmp_path / "gate")
    assert said in refused.value.message and refused.value.code == 503


async def test_what_a_proof_accepts(tmp_path: Path) -> None:
    await gate_proof.prove(Program(), bubblewrap, tmp_path / "gate")
    assert gate_proof.key(Program()) == gate_proof.key(Program()) != gate_proof.key(ClaudeRuntime())
    assert gate_proof.key(runtime.ScriptedRuntime()) == ""
