"""One session of the claude program, inside the sandbox, its every tool call held for the gate.

What makes it hermetic, each part measured with the pinned versions and tested: no settings of any source,
no MCP servers but ours, no skills, no slash commands, prompts taken verbatim, file tools restricted to the
granted folders, a fresh HOME, an environment written out below, no network but the model's socket.

The gate is the PreToolUse hook: it sees every call that would execute, sub-agents' and read-only ones
included, and a hook that fails blocks. `can_use_tool` sees only some, and denies always: it is there for a
program that skips its hooks. The SDK runs hooks in trio system tasks, where neither an exception nor a
cancel scope of ours would be at home, so a hook only hands the call over to a task of the run and waits for
the ruling.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import claude_agent_sdk as sdk
import trio
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from sandbox import frames
from sandbox.confinement import HOME, MODEL_SOCKET, SHELL_LAUNCHER, ConfinedProcess, Profile
from sandbox.errors import FrameError
from sandbox.gate import Ruling
from sandbox.runtimes import Outcome, Surroundings, Task, claude_mcp, tell_left_behind

_MESSAGE_LIMIT: Final = 32 * 1024 * 1024
_STDERR_KEPT: Final = 20
_EXHAUSTED: Final[Mapping[str, Literal["turns", "usd"]]] = {
    "error_max_turns": "turns",
    "error_max_budget_usd": "usd",
}


async def run(task: Task, surroundings: Surroundings, program: Path) -> Outcome:
    """Do the task in one session; `program` is an inside path. Cancelling kills the program's whole tree at
    once.
    """
    session = _Session(surroundings)
    options = _options(task, surroundings, session.hook, program)
    transport = ConfinedTransport(options, surroundings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.rule)
        try:
            outcome = await session.converse(sdk.ClaudeSDKClient(options, transport), task)
        except (sdk.ClaudeSDKError, trio.BrokenResourceError) as problem:
            outcome = session.failed(problem, transport.last_words())
        finally:
            await transport.close()
        nursery.cancel_scope.cancel()
    if transport.process is not None:
        await tell_left_behind(transport.process, surroundings)
    return outcome


class _Session:
    """The conversation: calls out to the gate, messages into the trace."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._held_out, self._held_in = trio.open_memory_channel[_Held](math.inf)
        self._judged: set[str] = set()
        self._announced: dict[str, tuple[str, dict[str, Any]]] = {}
        self._reply = ""
        self._turns = 0
        self._last_message_id: str | None = None

    async def hook(self, call: Any, _id: str | None, _context: Any) -> Any:
        """PreToolUse, in a system task: hand the call over and wait."""
        held = _Held(call)
        await self._held_out.send(held)
        await held.ruled.wait()
        return {
            "hookSpecificOutput": {
                "hookEventName": "PreToolUse",
                "permissionDecision": "allow" if held.ruling.allow else "deny",
                "permissionDecisionReason": held.ruling.reason,
            }
        }

    async def rule(self) -> None:
        """Bring every held call before the gate, each in a task of its own, until cancelled."""
        async with trio.open_nursery() as nursery:
            async for held in self._held_in:
                nursery.start_soon(self._rule, held)

    async def _rule(self, held: _Held) -> None:
        call = held.call
        self._judged.add(call["tool_use_id"])
        held.ruling = await self._surroundings.gate.judge(
            call["tool_name"], call["tool_input"], call_id=call["tool_use_id"], agent_id=call.get("agent_id")
        )
        if held.ruling.allow:
            self._surroundings.mcp.admit(call["tool_name"], call["tool_input"])
        held.ruled.set()

    async def converse(self, client: sdk.ClaudeSDKClient, task: Task) -> Outcome:
        await client.connect()
        try:
            await client.query(_prompt(task))
            async for message in client.receive_response():
                if isinstance(message, sdk.AssistantMessage):
                    await self._said(message)
                elif isinstance(message, sdk.UserMessage):
                    await self._returned(message)
                elif isinstance(message, sdk.ResultMessage):
                    return self._ended(message)
            raise sdk.CLIConnectionError("the agent stopped in the middle")
        finally:
            with trio.CancelScope(shield=True):
                await client.disconnect()

    async def _said(self, message: sdk.AssistantMessage) -> None:
        if message.message_id is None or message.message_id != self._last_message_id:
            self._turns += 1
        self._last_message_id = message.message_id
        for block in message.content:
            if isinstance(block, sdk.TextBlock) and block.text:
                self._reply = _clean(block.text)
                # An API error comes as words of the assistant; it is told once, as the reason of the failure.
                if message.error is None:
                    await self._surroundings.emit(frames.Reasoning(text=self._reply))
            elif isinstance(block, sdk.ThinkingBlock) and block.thinking:
                await self._surroundings.emit(frames.Reasoning(text=_clean(block.thinking)))
            elif isinstance(block, sdk.ToolUseBlock):
                self._announced[block.id] = (block.name, block.input)

    async def _returned(self, message: sdk.UserMessage) -> None:
        for block in message.content if isinstance(message.content, list) else ():
            if not isinstance(block, sdk.ToolResultBlock):
                continue
            call_id = block.tool_use_id
            if call_id not in self._judged and call_id in self._announced:
                # Refused by the program before any hook: a tool that it does not have, or input it cannot
                # take.
                tool, arguments = self._announced[call_id]
                await self._surroundings.gate.refused_elsewhere(tool, arguments, call_id=call_id)
            output = _clean(_text(block.content))
            await self._surroundings.emit(frames.ToolResult(call_id=call_id, ok=not block.is_error, output=output))

    def _ended(self, result: sdk.ResultMessage) -> Outcome:
        if not result.is_error and result.subtype == "success":
            return Outcome("completed", _clean(result.result or self._reply), self._turns)
        reason, code = _reason(result.subtype, result.api_error_status, result.result or "")
        return Outcome("failed", "", self._turns, reason, code, _EXHAUSTED.get(result.subtype))

    def failed(self, problem: Exception, last_words: str) -> Outcome:
        """The program ended without a result, or reported an error on its way out."""
        exhausted = None
        if isinstance(problem, sdk.ResultError):
            reason, code = _reason(problem.subtype or "", problem.api_error_status, problem.result or "")
            exhausted = _EXHAUSTED.get(problem.subtype or "")
        else:
            reason, code = f"the Claude agent ended unexpectedly: {last_words or problem}", 500
        return Outcome("failed", "", self._turns, _clean(reason), code, exhausted)


class _Held:
    """One call between the hook and the gate."""

    def __init__(self, call: Mapping[str, Any]) -> None:
        self.call = call
        self.ruled = trio.Event()
        self.ruling = Ruling(False, "Denied.")


class ConfinedTransport(sdk.Transport):
    """The SDK's transport, with the program started by `surroundings.spawn` and by nothing else.

    The SDK's own merges this process's environment into the program's and starts it unconfined. Of it only
    the command line is taken, so that the options mean what the pinned SDK says they mean.
    """

    def __init__(self, options: sdk.ClaudeAgentOptions, surroundings: Surroundings) -> None:
        # As the SDK does for its own transport: `can_use_tool` is asked over stdio.
        asked = replace(options, can_use_tool=None, permission_prompt_tool_name="stdio")
        self._command: list[str] = SubprocessCLITransport("", asked)._build_command()
        self._environment = environment(surroundings.profile, surroundings.model_secret)
        self._surroundings = surroundings
        self.process: ConfinedProcess | None = None
        self._writing = trio.Lock()
        self._stderr: deque[str] = deque(maxlen=_STDERR_KEPT)

    async def connect(self) -> None:
        """Start the program."""
        self.process = await self._surroundings.spawn(self._command, self._environment)

    async def write(self, data: str) -> None:
        """One line to the program."""
        async with self._writing:
            if self.process is None or self.process.stdin is None:
                raise sdk.CLIConnectionError("the agent is not running")
            await self.process.stdin.send_all(data.encode())

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """The program's messages, until it ends. ProcessError when it ended badly."""
        process = self.process
        if process is None or process.stdout is None:
            raise sdk.CLIConnectionError("the agent is not running")
        try:
            async for line in frames.lines(process.stdout, limit=_MESSAGE_LIMIT):
                if line.startswith(b"{"):
                    yield json.loads(line)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            return
        except (FrameError, ValueError) as problem:
            raise sdk.ProcessError(f"the agent said something unreadable: {type(problem).__name__}") from problem
        await self._drain_stderr(process)
        status = await process.wait()
        if status != 0:
            raise sdk.ProcessError("the agent failed", exit_code=status)

    async def close(self) -> None:
        """Kill the program and all it started. Bounded: the kernel ends the tree within milliseconds."""
        if self.process is not None:
            await self.process.aclose()

    def is_ready(self) -> bool:
        """Whether it was started."""
        return self.process is not None

    async def end_input(self) -> None:
        """Close its input."""
        if self.process is not None and self.process.stdin is not None:
            await self.process.stdin.aclose()

    def last_words(self) -> str:
        """The end of what it wrote to stderr, for a reason."""
        return " ".join(self._stderr)[-500:]

    async def _drain_stderr(self, process: ConfinedProcess) -> None:
        with trio.move_on_after(1):
            if process.stderr is not None:
                while chunk := await process.stderr.receive_some(65536):
                    self._stderr.extend(chunk.decode(errors="replace").split("\n"))


def environment(profile: Profile, model_secret: str) -> dict[str, str]:
    """Every variable the program gets. None is this process's, and the key is the run's own secret, which opens the
    proxy and nothing else: the proxy has the real one. The launcher keeps it from shells.
    """
    return {
        **profile.environment(),
        "ANTHROPIC_BASE_URL": "http://model.invalid",
        "ANTHROPIC_UNIX_SOCKET": str(MODEL_SOCKET),
        "ANTHROPIC_API_KEY": model_secret,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        # A refused key is otherwise tried again for more than forty seconds.
        "CLAUDE_CODE_MAX_RETRIES": "2",
        "CLAUDE_CODE_TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
        "CLAUDE_CODE_SHELL_PREFIX": str(SHELL_LAUNCHER),
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    }


def _options(task: Task, surroundings: Surroundings, hook: Any, program: Path) -> sdk.ClaudeAgentOptions:
    budget = surroundings.budget
    profile = surroundings.profile
    others: list[str | Path] = [str(at) for _, at, _ in profile.seen() if at not in (HOME, profile.cwd)]
    # Longer than the run itself may take: the gate has its own, shorter patience, and a hook that the
    # program gives up on would be one more state to reason about.
    patience = budget.minutes * 60 + 60
    return sdk.ClaudeAgentOptions(
        cli_path=program,
        cwd=str(profile.cwd),
        tools=sorted(surroundings.tools),
        system_prompt=task.instructions,
        model=surroundings.model,
        max_turns=budget.turns,
        max_budget_usd=budget.usd,
        add_dirs=others,
        hooks={"PreToolUse": [sdk.HookMatcher(hooks=[hook], timeout=patience, on_failure="block")]},
        can_use_tool=_deny,
        setting_sources=[],
        mcp_servers=claude_mcp.servers(surroundings.mcp),
        strict_mcp_config=True,
        skills=[],
        verbatim_prompts=True,
        extra_args={"restricted": None, "no-session-persistence": None, "disable-slash-commands": None},
    )


async def _deny(_tool: str, _input: dict[str, Any], _context: Any) -> sdk.PermissionResultDeny:
    return sdk.PermissionResultDeny(message="Denied: this call did not pass the gate.", interrupt=False)


async def _prompt(task: Task) -> AsyncIterator[dict[str, Any]]:
    blocks = [{"type": "text", "text": text} for text in (task.sender_text, task.attached) if text]
    yield {"type": "user", "message": {"role": "user", "content": blocks}, "parent_tool_use_id": None}


def _reason(subtype: str, status: int | None, text: str) -> tuple[str, int]:
    """(sentence for people, code) of a failed session."""
    if status == 401 or "Not logged in" in text or "authentication" in text:
        return (
            "the model's API refused the key of this machine (401); fix: dispatch config set model.api_key -",
            401,
        )
    if status is not None or text.startswith("API Error"):
        said = f": {text}" if text else ""
        return f"the model's API answered {status or 'with an error'}{said}", status or 500
    return f"the Claude agent failed ({subtype}){': ' + text if text else ''}", 500


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = [block.get("text") or f"[{block.get('type')}]" for block in content or () if isinstance(block, dict)]
    return "\n".join(str(part) for part in parts)


def _clean(text: str) -> str:
    """Text that any encoder takes: a lone surrogate from the model must not end the run."""
    return text.encode("utf-8", "replace").decode()
