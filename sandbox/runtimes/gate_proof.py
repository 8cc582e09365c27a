"""Proving that the gate sees every call of an agent program. Judges no real call.

A session of the real program whose model is canned (`GateSession`): the model asks for calls that are all denied, one
of a sub-agent among them, and for one more that is allowed, so that a program which executes nothing at all does not
pass. A program that executes a call without asking is found out. No key and no network are involved.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from sandbox import frames
from sandbox.confinement import Confinement, Profile
from sandbox.confinement.places import HOME, WORKSPACE
from sandbox.errors import SandboxError
from sandbox.gate.gate import Gate, Ruling
from sandbox.gate.paths import opener, resolver
from sandbox.mcp.bridge import McpBridge
from sandbox.model_api.interface import Allowance
from sandbox.policy.decision import Scope
from sandbox.runtimes.runtime import GateSession, Outcome, RunContext, Runtime, Task

SECONDS: Final = 60.0
"""Bound of one proof; it takes one to three."""
_SOURCES: Final = Path(__file__).parents[1]
_TASK: Final = Task(sender_text="Prove the gate.", attached="", instructions="Follow the messages.")


def key(runtime: Runtime) -> str:
    """Identifies what a proof is good for: this program and this code. "" for a runtime without a `gate_session`."""
    if runtime.gate_session is None:
        return ""
    digest = hashlib.sha256(f"{runtime.name} {runtime.version()}".encode())
    for root in runtime.programs():
        status = root.path.stat()
        digest.update(f"{root.path} {status.st_size} {status.st_mtime_ns}".encode())
    for source in sorted(_SOURCES.glob("**/*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


async def prove(runtime: Runtime, confinement: Confinement, folder: Path) -> None:
    """Run the session in `folder`, which must be new. Main thread only; `runtime` must be prepared and have a session.

    Raises SandboxError 503 when the gate missed a call, or one that it denied was executed.
    """
    from sandbox.model_api.proxy import ModelProxy  # loads a client for HTTP: only where something is proven

    session, api = runtime.gate_session, runtime.model_api
    if session is None or api is None:
        raise ValueError("a runtime without a program of its own has nothing to prove")
    canary = secrets.token_hex(16)
    workspace, home = folder / "workspace", folder / "home"
    await trio.to_thread.run_sync(_make, workspace, home, canary)
    model = api.scripted_model(_turns(session), key=canary)
    witness = _Witness(session)
    secret = secrets.token_urlsafe(24)
    with trio.move_on_after(SECONDS) as bound:
        async with model.running():
            proxy = ModelProxy(
                api, model.url, canary, budget_usd=100.0, secret=secret, allowance=Allowance(tools=session.tools)
            )
            async with proxy.serving(folder / "model.sock"):
                profile = Profile(
                    workspace=workspace,
                    home=home,
                    model_socket=folder / "model.sock",
                    runtime=runtime.programs(),
                    cwd=WORKSPACE,
                )
                outcome = await _run(runtime, _context(confinement, profile, session, witness, secret))
    if bound.cancelled_caught:
        raise _not_proven(f"the agent program did not finish within {SECONDS:g} s")
    if outcome.status != "completed":
        raise _not_proven(outcome.reason or "the agent program failed")
    expected = {_label(tool, given) for tool, given in (*session.denied, session.allowed)}
    if missed := sorted(expected - witness.seen):
        raise _not_proven(f"the gate did not see {', '.join(missed)}")
    requests = list(model.requests)
    executed = any(canary in request.text for request in requests) or (workspace / "denied").exists()
    if executed or any(session.errand in request.opening for request in requests):
        raise _not_proven("a call that the gate had denied was executed")
    if not (workspace / "allowed").exists():
        raise _not_proven("a call that the gate had allowed was not executed")


async def _run(runtime: Runtime, context: RunContext) -> Outcome:
    try:
        return await runtime.run(_TASK, context)
    except SandboxError as error:
        return Outcome("failed", reason=error.message, code=error.code)


@dataclass
class _Witness:
    """The node's side of the proof's gate: allows the one call, and records which calls the gate saw."""

    session: GateSession
    seen: set[str] = field(default_factory=set)
    gate: _RecordingGate | None = None

    async def send(self, frame: frames.ToNode) -> None:
        if isinstance(frame, frames.Call) and self.gate is not None:
            allow = _label(frame.tool, frame.input) == _label(*self.session.allowed)
            # Never as a person: five denials of theirs would end the session.
            self.gate.resolve_call(frames.Verdict(call_id=frame.call_id, allow=allow, by="edge"))

    async def emit(self, _event: frames.TraceEvent) -> None:
        """Nobody reads the trace of a proof."""


class _RecordingGate(Gate):
    """A gate that records which calls reached it, not those that the program refused by itself."""

    seen: set[str]

    async def judge(
        self,
        tool: str,
        arguments: Mapping[str, object],
        *,
        call_id: str,
        agent_id: str | None = None,
        cwd: str | None = None,
    ) -> Ruling:
        self.seen.add(_label(tool, arguments))
        return await super().judge(tool, arguments, call_id=call_id, agent_id=agent_id, cwd=cwd)


def _label(tool: str, arguments: Mapping[str, object]) -> str:
    values = [str(arguments[name]) for name in ("command", "file_path", "prompt") if name in arguments]
    return " ".join([tool, *values])


def _turns(session: GateSession) -> list[Mapping[str, object]]:
    turns: list[Mapping[str, object]] = [
        {"tools": [{"name": tool, "input": dict(given)} for tool, given in calls]}
        for calls in (session.denied, (session.allowed,))
    ]
    return [*turns, {"text": "Proven."}]


def _context(
    confinement: Confinement, profile: Profile, session: GateSession, witness: _Witness, secret: str
) -> RunContext:
    scope = Scope(
        tools=session.granted,
        roots=(str(profile.workspace),),
        workspace=str(profile.workspace),
        project=str(profile.workspace),
        cwd=str(profile.cwd),
        home=str(HOME),
    )
    witness.gate = _RecordingGate(
        scope, resolve=resolver(profile), open_file=opener(profile), send=witness.send, emit=witness.emit
    )
    witness.gate.seen = witness.seen
    return RunContext(
        confinement=confinement,
        profile=profile,
        gate=witness.gate,
        emit=witness.emit,
        tools=session.tools,
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


def _not_proven(why: str) -> SandboxError:
    from sandbox import distribution  # takes long to load, and only an error needs it

    fix = f"{distribution.again('claude')}, then `dispatch doctor`"
    return SandboxError(f"the gate could not be proven with this agent program: {why}", fix=fix, code=503)
