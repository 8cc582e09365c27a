"""The gate: every tool call of a run passes here, whoever makes it, and leaves with allow or deny.

`sandbox.policy` says what the scope makes of a call. What it does not deny goes to the node as a `Call`
frame, also when it is already allowed: the node checks that the edge still stands and, where a person must
agree, asks them. One person can read one question, so calls that ask wait for each other; calls that are
allowed do not.

Nothing is allowed by silence: no answer within `answer_seconds` is a denial, closed with `CallClosed` so
that a late answer finds nothing. Five denials by a person in a row mean that the run is not wanted:
`tripped` is set and every later call is denied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import trio

from sandbox import frames, preview
from sandbox.policy import Decision, Resolve, Scope, decide, showable

DENIALS_IN_A_ROW: Final = 5
CHANGED: Final = "this MCP tool is new, or not as it was when it was granted"
_CALL_ID_LIMIT: Final = 190


@dataclass(frozen=True)
class Ruling:
    """What the agent is told: whether the call may proceed and, when not, why."""

    allow: bool
    reason: str = ""


class Gate:
    """The gate of one run. `judge` may be called from any number of tasks; `answer` from the frame reader.

    `send` passes a frame to the node, `emit` a line to the trace; both may wait.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        resolve: Resolve,
        send: Callable[[frames.ToNode], Awaitable[None]],
        emit: Callable[[frames.TraceEvent], Awaitable[None]],
        answer_seconds: float = 120.0,
    ) -> None:
        self.tripped = trio.Event()
        self._scope = scope
        self._resolve = resolve
        self._send = send
        self._emit = emit
        self._answer_seconds = answer_seconds
        self._session: frozenset[frames.Rule] = frozenset()
        self._one_question = trio.Lock()
        self._waiting: dict[str, _Slot] = {}
        self._seen: dict[str, int] = {}
        self._denials = 0

    async def judge(
        self, tool: str, arguments: Mapping[str, Any], *, call_id: str, agent_id: str | None = None
    ) -> Ruling:
        """Rule on one call.

        `call_id`: the runtime's id for it; `agent_id`: the sub-agent that makes it, if one.
        """
        call_id = self._own_id(call_id)
        decision = self._decide(tool, arguments)
        await self._emit(
            frames.ToolCall(call_id=call_id, tool=_shown(tool), input=_recorded(arguments), agent_id=agent_id)
        )
        if decision.verdict == "ask":
            async with self._one_question:
                # The answer to the question before this one may have granted, or ended, this one too.
                decision = self._decide(tool, arguments)
                return await self._rule(decision, tool, arguments, call_id, agent_id)
        return await self._rule(decision, tool, arguments, call_id, agent_id)

    async def refused_elsewhere(self, tool: str, arguments: Mapping[str, Any], *, call_id: str) -> None:
        """Record a call that the runtime itself refused before it came here: the trace misses none."""
        call_id = self._own_id(call_id)
        await self._emit(frames.ToolCall(call_id=call_id, tool=_shown(tool), input=_recorded(arguments)))
        note = "the agent program refused it"
        await self._emit(frames.Approval(call_id=call_id, outcome="denied", by="scope", note=note))

    def answer(self, answer: frames.Answer) -> bool:
        """The node's word on a call. False when nothing waits for it: too late, twice, or never asked."""
        slot = self._waiting.get(answer.call_id)
        return slot is not None and slot.put(answer)

    def _own_id(self, call_id: str) -> str:
        # The model chooses these ids. Two calls under one id would share one answer.
        call_id = call_id.encode("utf-8", "replace").decode()[:_CALL_ID_LIMIT] or "call"
        count = self._seen[call_id] = self._seen.get(call_id, 0) + 1
        return call_id if count == 1 else f"{call_id}#{count}"

    def _decide(self, tool: str, arguments: Mapping[str, Any]) -> Decision:
        return decide(self._scope, tool, arguments, session=self._session, resolve=self._resolve)

    async def _rule(
        self, decision: Decision, tool: str, arguments: Mapping[str, Any], call_id: str, agent_id: str | None
    ) -> Ruling:
        if decision.verdict == "deny":
            return await self._denied(call_id, "scope", decision.reason, note=decision.reason)
        if self.tripped.is_set():
            return await self._denied(call_id, "person", "the run is ending")
        call = frames.Call(
            call_id=call_id,
            tool=tool,
            input=dict(arguments),
            verdict=decision.verdict,
            by=decision.by,
            answer_seconds=self._answer_seconds,
            agent_id=agent_id,
            resolved_path=decision.path,
            diff=await self._diff(tool, arguments, decision.path),
            unusual=[
                *preview.unusual(self._scope, tool, arguments, decision.path, resolve=self._resolve),
                *([CHANGED] if tool in self._scope.changed else []),
            ],
            rule_if_always=decision.rule,
            mcp_pin=self._scope.changed.get(tool),
            rule_choices=list(decision.choices),
        )
        answer = await self._ask(call)
        if answer is None:
            await self._send(frames.CallClosed(call_id=call_id))
            waited = f"{self._answer_seconds:g} s"
            return await self._denied(call_id, "timeout", f"nobody answered within {waited}", outcome="unanswered")
        if not answer.allow:
            return await self._refused(call, answer)
        return await self._allowed(call, answer)

    async def _ask(self, call: frames.Call) -> frames.Answer | None:
        slot = self._waiting[call.call_id] = _Slot()
        try:
            await self._send(call)
            with trio.move_on_after(self._answer_seconds):
                await slot.filled.wait()
            return slot.answer
        finally:
            del self._waiting[call.call_id]

    async def _refused(self, call: frames.Call, answer: frames.Answer) -> Ruling:
        if answer.by == "person":
            self._denials += 1
            if self._denials >= DENIALS_IN_A_ROW:
                self.tripped.set()
        who = "the person at this machine" if answer.by == "person" else "this machine"
        reason = f"{who} denied this call" + (f", saying: {answer.note}" if answer.note else "")
        return await self._denied(call.call_id, answer.by, reason, note=answer.note)

    async def _allowed(self, call: frames.Call, answer: frames.Answer) -> Ruling:
        by: frames.By = answer.by if call.verdict == "ask" else call.by
        grant = answer.grant if call.verdict == "ask" else None
        if call.verdict == "ask":
            self._denials = 0
            # A person saw that the tool is another one, and agreed: the edge takes it as it is now.
            still = {tool: pin for tool, pin in self._scope.changed.items() if tool != call.tool}
            self._scope = replace(self._scope, changed=still)
        rule = answer.rule if answer.rule in call.rule_choices else call.rule_if_always
        if rule is not None and grant == "session":
            self._session |= {rule}
        if rule is not None and grant == "always":
            self._scope = replace(self._scope, rules=self._scope.rules | {rule})
        await self._emit(frames.Approval(call_id=call.call_id, outcome="allowed", by=by, grant=grant, note=answer.note))
        return Ruling(True)

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
        return Ruling(False, f"Denied: {reason}.")

    async def _diff(self, tool: str, arguments: Mapping[str, Any], path: str | None) -> str | None:
        if path is None or tool not in preview.DIFFERING_TOOLS:
            return None
        look = partial(preview.diff, tool, arguments, path)
        # In a thread: a disk may be slow and a diff long, and neither may hold up a cancel.
        # (trio-typing's stubs, which libp2p brings along, are older than this parameter.)
        return await trio.to_thread.run_sync(look, abandon_on_cancel=True)  # type: ignore[call-arg]


class _Slot:
    """Room for one answer."""

    def __init__(self) -> None:
        self.filled = trio.Event()
        self.answer: frames.Answer | None = None

    def put(self, answer: frames.Answer) -> bool:
        if self.answer is not None:
            return False
        self.answer = answer
        self.filled.set()
        return True


def _shown(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _recorded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The input as the trace holds it. A denied call is recorded too, whatever the model put into it."""
    return dict(arguments) if showable(arguments) else {"input": "cannot be shown"}
