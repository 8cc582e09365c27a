"""The gate: every tool call of a run passes here, whoever makes it, and is allowed or denied.

`sandbox.policy` judges a call by the scope. What it does not deny goes to the node as a `Call` frame, also when it is
already allowed: the node checks that the edge still stands and, where a person must agree, asks them. A person reads
one question at a time, so calls that ask wait for each other; calls that are allowed do not. A stored rule holds as
long as the edge has it: the node names those that were removed since, and the call is judged again without them.

A Write or Edit that is let through is judged once more when nothing else of the run moves (shells.py), and denied where
it would no longer do what was judged. The runtime calls `executed` when it has the result of a call.

Silence never allows: no verdict within `answer_seconds` is a denial, closed with `CallClosed`, and a late verdict has
no effect. Five denials by a person in a row mean that the run is not wanted: `tripped` is set and every later call is
denied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Literal

import trio

from sandbox import frames
from sandbox.errors import SandboxError
from sandbox.gate import preview
from sandbox.gate.paths import OpenFile
from sandbox.gate.shells import Shells
from sandbox.policy.decision import Decision, Resolve, Scope, decide, showable

DENIALS_IN_A_ROW: Final = 5
CHANGED: Final = "this MCP tool is new, or has changed since it was granted"
MOVED: Final = "what is at this path changed while the call waited; read it again, then repeat the call"
CALL_ID_LIMIT: Final = 190
CALLS_OF_A_RUN: Final = 10_000
"""Calls that are judged and recorded, those of sub-agents included; a run has 1,000 turns at most. Later ones are
denied without a trace, so that what a run makes this machine keep has an end."""


@dataclass(frozen=True)
class Ruling:
    """The gate's result for the agent: whether the call may proceed and, when not, why.

    `input`: of an allowed call, the arguments that were judged. The runtime executes these and no others.
    """

    allow: bool
    reason: str = ""
    input: Mapping[str, object] = field(default_factory=dict)


class Gate:
    """The gate of one run. `judge` may be called from any number of tasks; `resolve_call` from the frame reader.

    `resolve`, `open_file`: paths.py. `send` passes a frame to the node, `emit` an event to the trace; both may wait.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        resolve: Resolve,
        open_file: OpenFile,
        send: Callable[[frames.ToNode], Awaitable[None]],
        emit: Callable[[frames.TraceEvent], Awaitable[None]],
        answer_seconds: float = 120.0,
    ) -> None:
        self.tripped = trio.Event()
        self.shells = Shells()
        self._scope = scope
        self._resolve = resolve
        self._open_file = open_file
        self._send = send
        self._emit = emit
        self._answer_seconds = answer_seconds
        self._session: frozenset[frames.Rule] = frozenset()
        self._one_question = trio.Lock()
        self._pending: dict[str, _PendingCall] = {}
        self._seen: dict[str, int] = {}
        self._calls = 0
        self._denials = 0

    async def judge(
        self,
        tool: str,
        arguments: Mapping[str, object],
        *,
        call_id: str,
        agent_id: str | None = None,
        cwd: str | None = None,
    ) -> Ruling:
        """Allow or deny one call.

        `call_id`: the runtime's id for it; `agent_id`: the sub-agent that makes it; `cwd`: where the agent program is
        when it makes the call, an inside path, None for the folder that the run starts in.
        """
        if not self._counted():
            return Ruling(False, f"Denied: this run has reached its limit of {CALLS_OF_A_RUN:,} calls.")
        asked = _Asked(tool, arguments, call_id, self._own_id(call_id), agent_id, cwd)
        decision = self._decide(asked)
        await self._emit(
            frames.ToolCall(
                call_id=asked.recorded_id, tool=_shown(tool), input=_recorded(decision.input), agent_id=agent_id
            )
        )
        while True:
            if decision.verdict == "ask":
                async with self._one_question:
                    # The verdict on the question before this one may have granted this one, or ended the run.
                    ruling = await self._rule(self._decide(asked), asked)
            else:
                ruling = await self._rule(decision, asked)
            if ruling is not None:
                return ruling
            decision = self._decide(asked)

    async def executed(self, call_id: str) -> None:
        """The runtime has the result of a call, or will never have one. `call_id` is the runtime's own."""
        await self.shells.release(call_id)

    async def refused_elsewhere(self, tool: str, arguments: Mapping[str, object], *, call_id: str) -> None:
        """Record a call that the runtime itself refused before the gate saw it, so that the trace is complete."""
        if not self._counted():
            return
        call_id = self._own_id(call_id)
        await self._emit(frames.ToolCall(call_id=call_id, tool=_shown(tool), input=_recorded(arguments)))
        note = "the agent program refused it"
        await self._emit(frames.Approval(call_id=call_id, outcome="denied", by="scope", note=note))

    def resolve_call(self, verdict: frames.Verdict) -> bool:
        """Deliver the node's verdict. False when no call waits for it: too late, twice, or never asked."""
        pending = self._pending.get(verdict.call_id)
        return pending is not None and pending.resolve(verdict)

    def _counted(self) -> bool:
        """Count a call; False when there were too many before it."""
        self._calls += 1
        return self._calls <= CALLS_OF_A_RUN

    def _own_id(self, call_id: str) -> str:
        # The model chooses these ids. Two calls under one id would share one answer.
        call_id = call_id.encode("utf-8", "replace").decode()[:CALL_ID_LIMIT] or "call"
        count = self._seen[call_id] = self._seen.get(call_id, 0) + 1
        return call_id if count == 1 else f"{call_id}#{count}"

    def _decide(self, asked: _Asked) -> Decision:
        return decide(
            self._scope, asked.tool, asked.arguments, session=self._session, resolve=self._resolve, cwd=asked.cwd
        )

    async def _rule(self, decision: Decision, asked: _Asked) -> Ruling | None:
        """Have the node settle a call; None where it is to be judged again, without rules that were removed."""
        tool, call_id = asked.tool, asked.recorded_id
        if decision.verdict == "deny":
            return await self._denied(call_id, "scope", decision.reason, note=decision.reason)
        if self.tripped.is_set():
            return await self._denied(call_id, "person", "the run is ending")
        call = frames.Call(
            call_id=call_id,
            tool=tool,
            input=dict(decision.input),
            verdict=decision.verdict,
            by=decision.by,
            answer_seconds=self._answer_seconds,
            covered_by=list(decision.covered_by),
            agent_id=asked.agent_id,
            resolved_path=decision.path,
            diff=await self._diff(tool, decision.input, decision.path),
            unusual=await self._unusual(decision, asked),
            rule_if_always=decision.rule,
            mcp_pin=self._scope.changed.get(tool),
            rule_choices=list(decision.choices),
        )
        verdict = await self._ask(call)
        if verdict is None:
            await self._send(frames.CallClosed(call_id=call_id))
            waited = f"{self._answer_seconds:g} s"
            return await self._denied(call_id, "timeout", f"nobody answered within {waited}", outcome="unanswered")
        if not verdict.allow and self._forget(verdict.withdrawn):
            return None
        if not verdict.allow:
            return await self._refused(call, verdict)
        if tool in preview.DIFFERING_TOOLS and (why := await self._stand_still(call, decision, asked)):
            return await self._denied(call_id, "scope", why, note=why)
        return await self._allowed(call, verdict)

    def _forget(self, withdrawn: list[frames.Rule]) -> bool:
        """Drop stored rules that the edge no longer has; return whether there was one. What a person granted for this
        run stays: that is an answer of its own."""
        left = self._scope.rules - frozenset(withdrawn)
        known = left != self._scope.rules
        self._scope = replace(self._scope, rules=left)
        return known

    async def _unusual(self, decision: Decision, asked: _Asked) -> list[str]:
        tool = asked.tool
        found = preview.unusual(self._scope, tool, decision.input, decision.path, resolve=self._resolve, cwd=asked.cwd)
        if tool in self._scope.changed:
            found.append(CHANGED)
        if decision.verdict == "ask" and (left := await self.shells.running()):
            found.append(f"{left} process{'es are' if left > 1 else ' is'} still running from earlier commands")
        return found

    async def _stand_still(self, call: frames.Call, decision: Decision, asked: _Asked) -> str:
        """Have nothing else of the run move until `executed`; "", or why the call is not what was judged any more."""
        try:
            await self.shells.hold(asked.call_id)
        except SandboxError as error:
            return error.message
        why = MOVED
        try:
            again = self._decide(asked)
            same = again.verdict != "deny" and (again.path, again.input) == (decision.path, decision.input)
            # What a person saw is what happens; nobody saw a diff of the others.
            if same and (call.verdict == "allow" or call.diff == await self._diff(call.tool, call.input, again.path)):
                why = ""
            return why
        finally:
            if why:
                await self.shells.release(asked.call_id)

    async def _ask(self, call: frames.Call) -> frames.Verdict | None:
        pending = self._pending[call.call_id] = _PendingCall()
        try:
            await self._send(call)
            with trio.move_on_after(self._answer_seconds):
                await pending.resolved.wait()
            return pending.verdict
        finally:
            del self._pending[call.call_id]

    async def _refused(self, call: frames.Call, verdict: frames.Verdict) -> Ruling:
        if verdict.by == "person":
            self._denials += 1
            if self._denials >= DENIALS_IN_A_ROW:
                self.tripped.set()
        who = "the person at this machine" if verdict.by == "person" else "this machine"
        reason = f"{who} denied this call" + (f", saying: {verdict.note}" if verdict.note else "")
        return await self._denied(call.call_id, verdict.by, reason, note=verdict.note)

    async def _allowed(self, call: frames.Call, verdict: frames.Verdict) -> Ruling:
        by: frames.By = verdict.by if call.verdict == "ask" else call.by
        grant = verdict.grant if call.verdict == "ask" else None
        if call.verdict == "ask":
            self._denials = 0
            # A person saw that the tool changed, and agreed: it counts as pinned from here on.
            still = {tool: pin for tool, pin in self._scope.changed.items() if tool != call.tool}
            self._scope = replace(self._scope, changed=still)
        rule = verdict.rule if verdict.rule in call.rule_choices else call.rule_if_always
        if rule is not None and grant == "session":
            self._session |= {rule}
        if rule is not None and grant == "always":
            self._scope = replace(self._scope, rules=self._scope.rules | {rule})
        await self._emit(
            frames.Approval(call_id=call.call_id, outcome="allowed", by=by, grant=grant, note=verdict.note)
        )
        return Ruling(True, input=call.input)

    async def _denied(
        self,
        call_id: str,
        by: frames.By,
        reason: str,
        *,
        outcome: Literal["denied", "unanswered"] = "denied",
        note: str | None = None,
    ) -> Ruling:
        await self._emit(frames.Approval(call_id=call_id, outcome=outcome, by=by, note=note))
        return Ruling(False, f"Denied by the gate: {reason}.")

    async def _diff(self, tool: str, arguments: Mapping[str, object], path: str | None) -> str | None:
        if path is None or tool not in preview.DIFFERING_TOOLS:
            return None
        look = partial(preview.diff, tool, arguments, path, self._open_file)
        # In a thread: a disk may be slow and a diff long, and neither may delay a cancel.
        # The ignore: trio-typing's stubs, which libp2p installs, are older than this parameter.
        return await trio.to_thread.run_sync(look, abandon_on_cancel=True)  # type: ignore[call-arg]


@dataclass(frozen=True)
class _Asked:
    """A call as the runtime brought it. `recorded_id`: its id in the trace, which no other call has."""

    tool: str
    arguments: Mapping[str, object]
    call_id: str
    recorded_id: str
    agent_id: str | None
    cwd: str | None


class _PendingCall:
    """A call that waits for the node's verdict. The first one counts."""

    def __init__(self) -> None:
        self.resolved = trio.Event()
        self.verdict: frames.Verdict | None = None

    def resolve(self, verdict: frames.Verdict) -> bool:
        if self.verdict is not None:
            return False
        self.verdict = verdict
        self.resolved.set()
        return True


def _shown(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _recorded(arguments: Mapping[str, object]) -> dict[str, object]:
    """The input for the trace, which records denied calls too, whatever the model put into them."""
    return dict(arguments) if showable(arguments) else {"input": "cannot be shown"}
