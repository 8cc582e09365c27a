"""Sessions of the real claude program with the plugin loaded: a model whose words are played, and a person who answers.

Real: the program, its permissions, its picker and its hooks, our server, the daemons, the runs. Played: what the host's
model says, by a function of the conversation, and what the person answers to the questions that the program asks.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import claude_agent_sdk as sdk
import msgspec
import trio

from sandbox.model_api.anthropic.scripted_model import Request, ScriptedModel, Turn, _Turn
from sandbox.runtimes.claude.runtime import bundled_program
from tests.mcp_plugin.hosts import READING
from tests.mcp_plugin.plugin import claude as host
from tests.system.world import Person

PREFIX = "mcp__plugin_dispatch_dispatch__"
PICKER = "AskUserQuestion"
WITHIN = 90.0

Document = dict[str, Any]


def use(tool: str, **given: Any) -> Turn:
    """One turn of the model: one call. A tool of ours is named without its prefix."""
    name = PREFIX + tool if tool.startswith("dispatch_") else tool
    return {"text": "", "tools": [{"name": name, "input": given}]}


def say(text: str) -> Turn:
    return {"text": text}


def at_once(*turns: Turn) -> list[Turn]:
    """Several calls in one turn of the model, as lines: a line for each result that is heard."""
    tools: list[Any] = [call for turn in turns for call in cast("Document", turn)["tools"]]
    return [{"text": "", "tools": tools}] * len(tools)


def pick(*questions: Document) -> Turn:
    return use(PICKER, questions=list(questions))


def question(text: str, header: str, *options: str) -> Document:
    shown = [{"label": option, "description": f"what {option} does"} for option in options]
    return {"question": text, "header": header, "options": shown, "multiSelect": False}


class Heard:
    """What the model has heard: the results of its calls."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.results = request.tool_results

    @property
    def last(self) -> Document:
        """The last result as the JSON that it is."""
        found = json.loads(self.last_text)
        assert isinstance(found, dict)
        return found

    @property
    def last_text(self) -> str:
        content = self.results[-1]["content"]
        return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


Line = Turn | Callable[[Heard], Turn]


class Played(ScriptedModel):
    """A model whose n-th turn may depend on what it has heard."""

    lines: Sequence[Line] = ()

    def _turn(self, request: Request) -> _Turn:
        return msgspec.convert(self._played(request), _Turn)

    def _played(self, request: Request) -> Turn:
        number = len(request.tool_results)
        line = self.lines[min(number, len(self.lines) - 1)]
        if not callable(line):
            return line
        heard = Heard(request)
        try:
            return line(heard)
        except (ValueError, KeyError):
            return say(f"I did not expect to hear this: {heard.last_text}")


@dataclass
class Answers:
    """The person: what they choose in the picker, in order, and whether they permit a call."""

    picks: list[str | list[str]] = field(default_factory=list)
    permits: Callable[[str, Document], bool] = lambda _tool, _given: True
    reads: float | Callable[[Document], float] = READING
    chooses: Callable[[Document], list[str]] | None = None
    """What they choose in a picker with these questions, in place of `picks`."""


@dataclass
class Session:
    """What happened, in order."""

    calls: list[tuple[str, Document]] = field(default_factory=list)
    """Each tool call of the model: its name without our prefix, and its input."""
    results: dict[int, tuple[bool, str]] = field(default_factory=dict)
    """By the number of the call: whether it went well, and its text."""
    asked: list[str] = field(default_factory=list)
    """The tools for which the program asked the person's permission."""
    asked_with: list[str] = field(default_factory=list)
    """The words of each of these questions, where a hook gave some."""
    shown: list[Document] = field(default_factory=list)
    """The questions that the picker showed."""
    hooks: list[Document] = field(default_factory=list)
    init: Document = field(default_factory=dict)
    final: str = ""
    denials: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    @property
    def tools(self) -> list[str]:
        return [name for name, _ in self.calls]

    @property
    def unasked(self) -> set[str]:
        """The tools that ran although nobody was asked."""
        return {name for n, (name, _) in enumerate(self.calls) if self.results.get(n, (False, ""))[0]} - set(self.asked)

    def result(self, number: int) -> Document:
        """The result of a call that went well."""
        good, text = self.results[number]
        assert good, text
        document = json.loads(text)
        assert isinstance(document, dict)
        return document


FORM_HOOK = """\
import json, sys, time
asked = json.load(sys.stdin)
(field, about), *_ = asked["requested_schema"]["properties"].items()
values = [choice["const"] for choice in about["oneOf"]]
with open(sys.argv[1], "a") as log:
    log.write(json.dumps({"message": asked["message"], "values": values}) + chr(10))
time.sleep(float(sys.argv[2]))
chosen = next(value for value in sys.argv[3:] if value in values)
print(json.dumps({"hookSpecificOutput":
    {"hookEventName": "Elicitation", "action": "accept", "content": {field: chosen}}}))
"""


class Forms:
    """The person before the program's forms: an Elicitation hook, since a session without a terminal shows none."""

    def __init__(self, folder: Path, *chosen: str, reads: float = READING) -> None:
        """`chosen`: what they would choose, the first of it that a form has. `reads`: seconds until they do."""
        self._log = folder / "forms"
        self._log.unlink(missing_ok=True)
        program = folder / "form_hook.py"
        program.write_text(FORM_HOOK)
        words = [sys.executable, str(program), str(self._log), str(reads), *chosen]
        hook = {"type": "command", "command": shlex.join(words), "timeout": 60}
        self.settings = {"hooks": {"Elicitation": [{"hooks": [hook]}]}}

    @property
    def seen(self) -> list[Document]:
        """Each form: its message, and the values it offered."""
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []


async def play(
    person: Person,
    prompt: str,
    *lines: Line,
    answers: Answers | None = None,
    settings: Mapping[str, Any] | None = None,
    installed: bool = True,
    **environment: str,
) -> Session:
    """Have one session of the person's: the prompt, then the model's lines and the person's answers to its end."""
    model = Played(turns=())
    model.lines = lines
    session, person_answers = Session(), answers or Answers()
    home = person.home / "claude-home"
    (home / ".claude").mkdir(parents=True, exist_ok=True)
    (home / ".claude" / "settings.json").write_text(json.dumps(settings or {}))
    if installed:  # as `dispatch plugin install` does
        person.state.write_private(person.state.programs, f"{host.PROGRAMS}\n".encode())
    else:
        person.state.programs.unlink(missing_ok=True)
    async with model.running():
        given = host.environment(home, model.url, **_ours(person), **environment)
        program = _wrapped(person.home / "claude-in-here", given)
        numbers: dict[str, int] = {}

        async def permission(tool: str, given: Document, context: Any) -> Any:
            if tool == PICKER:
                session.shown.append(given)
                reads = person_answers.reads
                await trio.sleep(reads(given) if callable(reads) else reads)
                choose = person_answers.chooses
                chosen = choose(given) if choose is not None else person_answers.picks.pop(0)
                chosen = [chosen] if isinstance(chosen, str) else chosen
                texts = [each["question"] for each in given["questions"]]
                picked = dict(zip(texts, chosen, strict=True))
                return sdk.PermissionResultAllow(updated_input={**given, "answers": picked})
            session.asked.append(_short(tool))
            session.asked_with.append(context.decision_reason or "")
            if person_answers.permits(_short(tool), given):
                return sdk.PermissionResultAllow(updated_input=given)
            return sdk.PermissionResultDeny(message="the person said no")

        options = sdk.ClaudeAgentOptions(
            cli_path=program,
            cwd=person.home,
            plugins=[{"type": "local", "path": str(host.PLUGIN)}],
            setting_sources=["user"],
            can_use_tool=permission,
            include_hook_events=True,
        )
        with trio.fail_after(WITHIN):
            async with _client(options) as client:
                await client.query(prompt)
                async for message in client.receive_response():
                    _take(session, numbers, message)
        session.requests = model.main_requests()
    return session


@asynccontextmanager
async def _client(options: sdk.ClaudeAgentOptions) -> AsyncIterator[sdk.ClaudeSDKClient]:
    client = sdk.ClaudeSDKClient(options)
    await client.connect()
    try:
        yield client
    finally:
        with trio.CancelScope(shield=True):
            await client.disconnect()


def _take(session: Session, numbers: dict[str, int], message: Any) -> None:
    if isinstance(message, sdk.AssistantMessage):
        for block in message.content:
            if isinstance(block, sdk.ToolUseBlock):
                numbers[block.id] = len(session.calls)
                session.calls.append((_short(block.name), block.input))
    elif isinstance(message, sdk.UserMessage) and isinstance(message.content, list):
        for block in message.content:
            if isinstance(block, sdk.ToolResultBlock):
                session.results[numbers[block.tool_use_id]] = (not block.is_error, _text(block.content))
    elif isinstance(message, sdk.SystemMessage):
        if message.subtype == "init":
            session.init = message.data
        elif message.subtype.startswith("hook"):
            session.hooks.append(message.data)
    elif isinstance(message, sdk.ResultMessage):
        session.final = message.result or ""
        session.denials = [_short(each["tool_name"]) for each in message.permission_denials or []]


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content or [])


def _short(name: str) -> str:
    return name.removeprefix(PREFIX)


def _ours(person: Person) -> dict[str, str]:
    """What of the person's own environment our programs need in a session."""
    return {"DISPATCH_HOME": str(person.state.path), "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}


def _wrapped(path: Path, given: Mapping[str, str]) -> Path:
    """Return a program that is the claude program in this environment alone: the SDK would pass on our own."""
    variables = " ".join(shlex.quote(f"{name}={value}") for name, value in given.items())
    path.write_text(f'#!/bin/sh\nexec env -i {variables} {bundled_program()} "$@"\n')
    path.chmod(0o755)
    return path
