"""Proving that the gate sees every call: a session of the real agent program whose model is canned, and whose calls
are all denied but one. A program that executes a call without asking is found out here. Judges no real call.

The canned model asks for a shell command that only reads (the kind that the program would not ask its own permission
callback about), for a file, for a change, and for a sub-agent; all are denied. One more change is allowed, so that a
program that executes nothing at all is not taken for a gated one. Sub-agents are off in every real run: there the
program does not even have them. Here it does, or a call of one would never come as far as the gate. No key and no
network are involved.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from sandbox import frames, gate, runtimes
from sandbox.confinement import HOME, WORKSPACE, Profile
from sandbox.errors import SandboxError
from sandbox.mcp_bridge import McpBridge
from sandbox.model_proxy import ModelProxy
from sandbox.model_request import Allowance
from sandbox.policy import Scope
from sandbox.testing.scripted_model import ScriptedModel
from sandbox.views import resolver

SECONDS: Final = 60.0
"""Bound of one proof; it takes one to three."""
_TOOLS: Final = frozenset({"Bash", "Read", "Write"})
_SUBAGENT: Final = "Agent"


def key(runtime: runtimes.Runtime) -> str:
    """What a proof is good for: this program and this code. "" for a runtime whose calls are made on this side."""
    if not runtime.needs_model:
        return ""
    digest = hashlib.sha256(f"{runtime.name} {runtime.version()}".encode())
    for root in runtime.programs():
        status = root.path.stat()
        digest.update(f"{root.path} {status.st_size} {status.st_mtime_ns}".encode())
    for source in sorted(Path(__file__).parent.glob("**/*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


async def prove(runtime: runtimes.Runtime, folder: Path) -> None:
    """Run the session in `folder`, which must be new. Main thread only; `runtime` must be prepared.

    Raises SandboxError 503 when the gate missed a call, or one that it denied was executed.
    """
    canary = secrets.token_hex(16)
    workspace, home = folder / "workspace", folder / "home"
    await trio.to_thread.run_sync(_make, workspace, home, canary)
    model = ScriptedModel(_turns(), key=canary)
    witness = _Witness()
    secret = secrets.token_urlsafe(24)
    with trio.move_on_after(SECONDS) as bound:
        async with model.running():
            proxy = ModelProxy(
                model.url, canary, budget_usd=100.0, secret=secret, allowance=Allowance(tools=_TOOLS | {_SUBAGENT})
            )
            async with proxy.serving(folder / "model.sock"):
                profile = Profile(
                    workspace=workspace,
                    home=home,
                    model_socket=folder / "model.sock",
                    runtime=runtime.programs(),
                    cwd=WORKSPACE,
                )
                outcome = await _run(runtime, _surroundings(profile, witness, secret))
    if bound.cancelled_caught:
        raise _broken(f"the agent program did not finish within {SECONDS:g} s")
    if outcome.status != "completed":
        raise _broken(outcome.reason or "the agent program failed")
    told = "".join(request.text for request in model.requests)
    if missed := sorted(_EXPECTED - witness.seen):
        raise _broken(f"the gate did not see {', '.join(missed)}")
    begun = [request for request in model.requests if _ERRAND in json.dumps(request.body.get("messages", ())[:1])]
    if canary in told or begun or (workspace / "denied").exists():
        raise _broken("a call that the gate had denied was executed")
    if not (workspace / "allowed").exists():
        raise _broken("a call that the gate had allowed was not executed")


async def _run(runtime: runtimes.Runtime, surroundings: runtimes.Surroundings) -> runtimes.Outcome:
    try:
        return await runtime.run(_TASK, surroundings)
    except SandboxError as error:
        return runtimes.Outcome("failed", reason=error.message, code=error.code)


@dataclass
class _Witness:
    """The node's side of the proof's gate: denies, and remembers what it was asked."""

    seen: set[str] = field(default_factory=set)
    gate: _SeeingGate | None = None

    async def send(self, frame: frames.ToNode) -> None:
        if isinstance(frame, frames.Call) and self.gate is not None:
            # Never as a person: five denials of theirs would end the session.
            allow = frame.input.get("command") == _ALLOWED
            self.gate.answer(frames.Answer(call_id=frame.call_id, allow=allow, by="edge"))

    async def emit(self, _event: frames.TraceEvent) -> None:
        """The trace of a proof is nobody's to read."""


class _SeeingGate(gate.Gate):
    """A gate that remembers which calls came to it; not those that the program refused by itself."""

    seen: set[str]

    async def judge(
        self, tool: str, arguments: Mapping[str, Any], *, call_id: str, agent_id: str | None = None
    ) -> gate.Ruling:
        self.seen.add(_named(tool, arguments))
        return await super().judge(tool, arguments, call_id=call_id, agent_id=agent_id)


def _named(tool: str, arguments: Mapping[str, Any]) -> str:
    said = [str(arguments[name]) for name in ("command", "file_path", "prompt") if name in arguments]
    return " ".join([tool, *said])


_DENIED: Final = f"{WORKSPACE}/denied"
_CANARY: Final = f"{WORKSPACE}/canary"
_ALLOWED: Final = f"touch {WORKSPACE}/allowed"
_ERRAND: Final = f"Make the file {WORKSPACE}/denied-to-a-sub-agent."
_CALLS: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    ("Bash", {"command": f"cat {_CANARY}"}),
    ("Read", {"file_path": _CANARY}),
    ("Write", {"file_path": _DENIED, "content": "x"}),
    ("Bash", {"command": f"touch {_DENIED}"}),
    (_SUBAGENT, {"prompt": _ERRAND, "description": "x", "subagent_type": "general-purpose"}),
    ("Bash", {"command": _ALLOWED}),
)
_EXPECTED: Final = frozenset(_named(tool, given) for tool, given in _CALLS)
_TASK: Final = runtimes.Task(sender_text="Prove the gate.", attached="", instructions="Do what you are told.")


def _turns() -> list[dict[str, Any]]:
    first, last = _CALLS[:-1], _CALLS[-1:]
    turns: list[dict[str, Any]] = [
        {"tools": [{"name": tool, "input": given} for tool, given in calls]} for calls in (first, last)
    ]
    return [*turns, {"text": "Proven."}]


def _surroundings(profile: Profile, witness: _Witness, secret: str) -> runtimes.Surroundings:
    scope = Scope(
        tools=_TOOLS,
        roots=(str(profile.workspace),),
        workspace=str(profile.workspace),
        project=str(profile.workspace),
        cwd=str(profile.cwd),
        home=str(HOME),
    )
    witness.gate = _SeeingGate(scope, resolve=resolver(profile.outside), send=witness.send, emit=witness.emit)
    witness.gate.seen = witness.seen
    return runtimes.Surroundings(
        profile=profile,
        gate=witness.gate,
        emit=witness.emit,
        tools=_TOOLS | {_SUBAGENT},
        budget=frames.Budget(minutes=SECONDS / 60, turns=10, usd=100.0),
        model=None,
        mcp=McpBridge(),
        model_secret=secret,
    )


def _make(workspace: Path, home: Path, canary: str) -> None:
    workspace.parent.mkdir(mode=0o700, exist_ok=True)
    for folder in (workspace, home):
        folder.mkdir(mode=0o700)
    (workspace / "canary").write_text(canary)


def _broken(what: str) -> SandboxError:
    fix = "`pip install --force-reinstall 'dispatch-courier[claude]'`, then `dispatch doctor`"
    return SandboxError(f"the gate is not proven with this agent program: {what}", fix=fix, code=503)
