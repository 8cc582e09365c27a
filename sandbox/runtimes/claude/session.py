"""One session of the claude program, inside the sandbox, its every tool call held for the gate.

What makes it hermetic, each part measured with the pinned versions and tested: no settings of any source, no MCP
servers but ours, no skills, no slash commands, prompts taken verbatim, file tools restricted to the granted folders, a
fresh HOME, an environment written out in transport.py, no network but the model's socket.

The gate is the PreToolUse hook: the program calls it before every execution, for sub-agents and for calls that only
read too, and a hook that fails blocks. What it allows runs with the input that the gate judged. Of some calls that the
hook allowed the program has doubts of its own (`a & b`), and asks `can_use_tool`: that one allows once what the gate
allowed under this id, with the same input, and denies everything else, for a program that skips its hooks. The SDK runs
hooks in trio system tasks, where neither an exception nor a cancel scope of ours may be, so a hook only hands the call
over to a task of the run and waits for the ruling.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final, Literal, NotRequired, TypedDict, cast

import claude_agent_sdk as sdk
import trio

from sandbox import frames
from sandbox.confinement.places import HOME
from sandbox.errors import quoted
from sandbox.gate.gate import CALL_ID_LIMIT, CALLS_OF_A_RUN, Ruling
from sandbox.mcp.bridge import UNGATED
from sandbox.runtimes.claude import mcp_servers
from sandbox.runtimes.claude.transport import ConfinedTransport
from sandbox.runtimes.runtime import Outcome, RunContext, Task

_EXHAUSTED: Final[Mapping[str, Literal["turns", "usd"]]] = {
    "error_max_turns": "turns",
    "error_max_budget_usd": "usd",
}


_FIXES: Final[Mapping[int, str]] = {401: "`dispatch config set model.api_key -`"}

CALLS_AT_ONCE: Final = 256
"""Calls of one session between their announcement and their result. A turn of the model has a few of them."""


async def run(task: Task, context: RunContext, program: Path) -> Outcome:
    """Do the task in one session; `program` is an inside path. Cancelling kills the program's whole tree at once."""
    session = _Session(context)
    options = _options(task, context, session, program)
    async with trio.open_nursery() as nursery:
        transport = ConfinedTransport(options, context, nursery)
        nursery.start_soon(session.judge_calls)
        try:
            outcome = await session.run(sdk.ClaudeSDKClient(options, transport), task)
        except (sdk.ClaudeSDKError, trio.BrokenResourceError) as problem:
            outcome = session.failure(problem, transport.stderr_end())
        finally:
            await transport.close()
        nursery.cancel_scope.cancel()
    return outcome


class _Call(TypedDict):
    """What PreToolUse gets, as far as it is used.

    `cwd`: the inside folder that the program is in. `agent_id`: the sub-agent that makes the call.
    """

    tool_name: str
    tool_input: dict[str, object]
    tool_use_id: str
    cwd: str
    agent_id: NotRequired[str | None]


class _PendingCall:
    """One call between the hook and the gate."""

    def __init__(self, call: _Call) -> None:
        self.call = call
        self.ruled = trio.Event()
        self.ruling = Ruling(False, UNGATED)


class _Session:
    """The conversation: calls out to the gate, messages into the trace."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._calls_send, self._calls = trio.open_memory_channel[_PendingCall](CALLS_AT_ONCE)
        self._held = 0
        self._judged: set[str] = set()
        self._allowed: dict[str, tuple[str, Mapping[str, object]]] = {}
        self._announced: dict[str, tuple[str, Mapping[str, object]]] = {}
        self._reply = ""
        self._turns = 0
        self._last_message_id: str | None = None

    async def hook(self, given: sdk.HookInput, _id: str | None, _context: sdk.HookContext) -> sdk.HookJSONOutput:
        """PreToolUse, in a system task: hand the call over and wait."""
        pending = _PendingCall(cast(_Call, given))
        if self._held < CALLS_AT_ONCE and len(pending.call["tool_use_id"]) <= CALL_ID_LIMIT:
            self._held += 1
            try:
                await self._calls_send.send(pending)
                await pending.ruled.wait()
            finally:
                self._held -= 1
        if pending.ruling.allow:
            return {
                "hookSpecificOutput": {
                    "hookEventName": "PreToolUse",
                    "permissionDecision": "allow",
                    "updatedInput": dict(pending.ruling.input),
                }
            }
        return {
            "hookSpecificOutput": {
                "hookEventName": "PreToolUse",
                "permissionDecision": "deny",
                "permissionDecisionReason": pending.ruling.reason,
            }
        }

    async def can_use_tool(
        self, tool: str, arguments: dict[str, object], context: sdk.ToolPermissionContext
    ) -> sdk.PermissionResult:
        """Allow the call that the gate allowed under this id, once; in a system task, like the hook."""
        allowed = self._allowed.pop(context.tool_use_id or "", None)
        if allowed is None or allowed != (tool, arguments):
            return sdk.PermissionResultDeny(message=UNGATED, interrupt=False)
        return sdk.PermissionResultAllow(updated_input=arguments)

    async def judge_calls(self) -> None:
        """Bring every pending call before the gate, each in a task of its own, until cancelled."""
        async with trio.open_nursery() as nursery:
            async for pending in self._calls:
                nursery.start_soon(self._judge, pending)

    async def _judge(self, pending: _PendingCall) -> None:
        call = pending.call
        if len(self._judged) < CALLS_OF_A_RUN:
            self._judged.add(call["tool_use_id"])
        pending.ruling = await self._context.gate.judge(
            call["tool_name"],
            call["tool_input"],
            call_id=call["tool_use_id"],
            agent_id=call.get("agent_id"),
            cwd=call["cwd"],
        )
        # The model chooses the ids: what an earlier call of this one left must not stand for a denied one.
        self._allowed.pop(call["tool_use_id"], None)
        if pending.ruling.allow:
            self._allowed[call["tool_use_id"]] = (call["tool_name"], pending.ruling.input)
            if len(self._allowed) > CALLS_AT_ONCE:
                del self._allowed[next(iter(self._allowed))]
            self._context.mcp.admit(call["tool_name"], pending.ruling.input)
        pending.ruled.set()

    async def run(self, client: sdk.ClaudeSDKClient, task: Task) -> Outcome:
        await client.connect()
        try:
            await client.query(_prompt(task))
            async for message in client.receive_response():
                if isinstance(message, sdk.AssistantMessage):
                    await self._on_assistant(message)
                elif isinstance(message, sdk.UserMessage):
                    await self._on_user(message)
                elif isinstance(message, sdk.ResultMessage):
                    return self._outcome(message)
            raise sdk.CLIConnectionError("the agent stopped before it had finished")
        finally:
            with trio.CancelScope(shield=True):
                await client.disconnect()

    async def _on_assistant(self, message: sdk.AssistantMessage) -> None:
        if message.message_id is None or message.message_id != self._last_message_id:
            self._turns += 1
        self._last_message_id = message.message_id
        for block in message.content:
            if isinstance(block, sdk.TextBlock) and block.text:
                self._reply = _clean(block.text)
                # An API error comes as text of the assistant; it is reported once, as the reason of the failure.
                if message.error is None:
                    await self._context.emit(frames.Reasoning(text=self._reply))
            elif isinstance(block, sdk.ThinkingBlock) and block.thinking:
                await self._context.emit(frames.Reasoning(text=_clean(block.thinking)))
            elif isinstance(block, sdk.ToolUseBlock):
                self._announced[block.id] = (block.name, block.input)
                if len(self._announced) > CALLS_AT_ONCE:
                    del self._announced[next(iter(self._announced))]

    async def _on_user(self, message: sdk.UserMessage) -> None:
        for block in message.content if isinstance(message.content, list) else ():
            if not isinstance(block, sdk.ToolResultBlock):
                continue
            call_id = block.tool_use_id
            await self._context.gate.executed(call_id)
            announced = self._announced.pop(call_id, None)
            self._allowed.pop(call_id, None)
            if call_id in self._judged:
                self._judged.discard(call_id)
            elif announced is not None:
                # The program refused it before any hook: a tool that it does not have, or invalid input.
                tool, arguments = announced
                await self._context.gate.refused_elsewhere(tool, arguments, call_id=call_id)
            output = _clean(_text(block.content))
            await self._context.emit(frames.ToolResult(call_id=call_id, ok=not block.is_error, output=output))

    def _outcome(self, result: sdk.ResultMessage) -> Outcome:
        if not result.is_error and result.subtype == "success":
            return Outcome("completed", _clean(result.result or self._reply), self._turns)
        reason, code = _reason(result.subtype, result.api_error_status, result.result or "")
        return Outcome(
            "failed", "", self._turns, reason, code, _EXHAUSTED.get(result.subtype), fix=_FIXES.get(code, "")
        )

    def failure(self, problem: Exception, stderr_end: str) -> Outcome:
        """The program ended without a result, or reported an error on its way out."""
        exhausted = None
        if isinstance(problem, sdk.ResultError):
            reason, code = _reason(problem.subtype or "", problem.api_error_status, problem.result or "")
            exhausted = _EXHAUSTED.get(problem.subtype or "")
        else:
            reason, code = f"the Claude agent ended unexpectedly: {quoted(stderr_end or str(problem))}", 500
        return Outcome("failed", "", self._turns, _clean(reason), code, exhausted, fix=_FIXES.get(code, ""))


def _options(task: Task, context: RunContext, session: _Session, program: Path) -> sdk.ClaudeAgentOptions:
    budget = context.budget
    profile = context.profile
    others: list[str | Path] = [str(mount.at) for mount in profile.mounts() if mount.at not in (HOME, profile.cwd)]
    # Longer than the run itself may take, so that the program never gives up on a hook: the gate has a shorter bound.
    hook_seconds = budget.minutes * 60 + 60
    return sdk.ClaudeAgentOptions(
        cli_path=program,
        cwd=str(profile.cwd),
        tools=sorted(context.tools),
        system_prompt=task.instructions,
        model=context.model,
        max_turns=budget.turns,
        max_budget_usd=budget.usd if context.program_counts_usd else None,
        add_dirs=others,
        hooks={"PreToolUse": [sdk.HookMatcher(hooks=[session.hook], timeout=hook_seconds, on_failure="block")]},
        can_use_tool=session.can_use_tool,
        setting_sources=[],
        mcp_servers=mcp_servers.servers(context.mcp),
        strict_mcp_config=True,
        skills=[],
        verbatim_prompts=True,
        extra_args={"restricted": None, "no-session-persistence": None, "disable-slash-commands": None},
    )


async def _prompt(task: Task) -> AsyncIterator[dict[str, object]]:
    blocks = [{"type": "text", "text": text} for text in (task.sender_text, task.attached) if text]
    yield {"type": "user", "message": {"role": "user", "content": blocks}, "parent_tool_use_id": None}


def _reason(subtype: str, status: int | None, text: str) -> tuple[str, int]:
    """(sentence for people, code) of a failed session."""
    if status == 401 or "Not logged in" in text or "authentication" in text:
        return "the model's API rejected this machine's key (401)", 401
    if status is not None or text.startswith("API Error"):
        details = f": {said}" if (said := quoted(text)) else ""
        return f"the model's API answered {status or 'with an error'}{details}", status or 500
    said = quoted(text)
    return f"the Claude agent failed ({subtype}){': ' + said if said else ''}", 500


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else ()
    parts = [block.get("text") or f"[{block.get('type')}]" for block in blocks if isinstance(block, dict)]
    return "\n".join(str(part) for part in parts)


def _clean(text: str) -> str:
    """Text that any encoder takes: a lone surrogate from the model must not end the run."""
    return text.encode("utf-8", "replace").decode()
