"""Hosts for the tests: the SDK's client with the real server program, and people who answer its forms.

A host's person is not here: what they pick is said by the test, as the model of a host would pass it on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import trio
from mcp import Client, StdioServerParameters

from mcp_plugin import fixes
from mcp_plugin import session as session_module
from tests.conftest import HANG
from tests.system import preloaded
from tests.system.world import Failed, Person

Document = dict[str, Any]
Chooser = Callable[[str, dict[str, str]], str | None]
"""What a person does with a form: its message and its titles by answer → the answer, None to close the form."""

READING = 1.3
"""Seconds that somebody needs who reads before they answer; the server takes 1.2 for the least."""


HOOKED = {session_module.HOOKED: "claude-code"}
"""As the plugin starts the server: what a test passes on as the person's answer is taken for it."""


class Host:
    """One session: calls tools, hears progress, answers forms."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.progress: list[str] = []
        self.forms: list[tuple[str, dict[str, str]]] = []

    async def call(self, tool: str, **arguments: object) -> types.CallToolResult:
        async def heard(progress: float, total: float | None, message: str | None) -> None:
            self.progress.append(message or "")

        with trio.fail_after(HANG):
            result = await self.client.call_tool(tool, arguments, progress_callback=heard)
        assert isinstance(result, types.CallToolResult)
        return result

    async def ok(self, tool: str, **arguments: object) -> Document:
        """Call a tool; fail unless it succeeds."""
        result = await self.call(tool, **arguments)
        assert not result.is_error, result.content
        assert isinstance(result.structured_content, dict)
        return result.structured_content

    async def refused(self, tool: str, **arguments: object) -> Document:
        """Call a tool that is refused; return {code, message, fix, …}."""
        result = await self.call(tool, **arguments)
        assert result.is_error, result.structured_content
        document: Document = result.structured_content
        (content,) = result.content
        assert isinstance(content, types.TextContent)
        assert content.text.startswith(f"error {document['code']}: {document['message']}")
        assert document["fix"] in content.text
        check_fix(document["fix"])
        return document

    async def act(self, action: str, dispatch_id: str, **more: object) -> Document:
        return await self.ok("dispatch_act", action=action, dispatch_id=dispatch_id, **more)


def check_fix(fix: str) -> None:
    """Fail if a fix names a command that a tool does, or one for a terminal without saying so."""
    commands = re.findall(r"`((?:dispatch|dispatch-daemon|pip)(?: [^`]*)?)`", fix)
    assert not commands or "in a terminal" in fix, fix
    own = fix.startswith("the person runs this in a terminal: ")
    assert own or not [command for command in commands if fixes.call_of(command)], fix


@asynccontextmanager
async def session(
    person: Person,
    *,
    mode: str = "legacy",
    person_does: Chooser | None = None,
    reads: float = READING,
    environment: dict[str, str] | None = None,
    arguments: Sequence[str] = (),
    name: str = "",
    fills_in: Document | None = None,
) -> AsyncIterator[Host]:
    """A host's session with the real server as its child. `person_does` answers forms; without it there are none.

    `reads`: seconds until a form is answered. `name`: what the host calls itself. `fills_in`: what the person writes
    into further fields of forms that have them.
    """
    host: Host

    async def answer(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestFormParams) and person_does is not None
        field, *further = params.requested_schema["properties"].items()
        titles = {choice["const"]: choice["title"] for choice in field[1]["oneOf"]}
        host.forms.append((params.message, titles))
        chosen = person_does(params.message, titles)
        await trio.sleep(reads)
        if chosen is None:
            return types.ElicitResult(action="cancel")
        if chosen == "DECLINE":
            return types.ElicitResult(action="decline")
        more = {each: value for each, value in (fills_in or {}).items() if each in dict(further)}
        return types.ElicitResult(action="accept", content={field[0]: chosen, **more})

    given = person.environment | HOOKED | (environment or {})
    program, *words = preloaded.command("mcp_plugin.main", given)
    server = StdioServerParameters(
        command=program,
        args=[*words, *arguments],
        env=given,
        cwd=person.home,
    )
    with (person.home / "mcp.errors").open("a") as errors:
        from mcp.client.stdio import stdio_client

        client = Client(
            stdio_client(server, errlog=errors),
            mode=mode,
            elicitation_callback=None if person_does is None else answer,
            client_info=types.Implementation(name=name, version="0") if name else None,
        )
        async with client:
            host = Host(client)
            yield host


async def until_pending(person: Person, dispatch_id: str) -> None:
    """Wait until the sender hears that a dispatch is in the inbox."""
    await trio.to_thread.run_sync(person.state_of, dispatch_id, "pending")


class Raw:
    """The server program spoken with by lines, for what no proper client does. Dead when this process is."""

    def __init__(self, person: Person, environment: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self._errors = person.home / "mcp.errors"
        self.ids = 0
        with self._errors.open("ab") as errors:
            self.process = preloaded.start(
                "mcp_plugin.main",
                environment=person.environment | HOOKED | (environment or {}),
                cwd=cwd or person.home,
                stdin=subprocess.PIPE,
                stderr=errors.fileno(),
            )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self._rest = b""

    def say(self, line: bytes | Document) -> None:
        """Write one line as it is, or one message."""
        self.stdin.write(line if isinstance(line, bytes) else json.dumps(line).encode())
        self.stdin.write(b"\n")
        self.stdin.flush()

    def hear(self) -> Document:
        """Return the next message. Raises Failed when there is none, or standard output has anything else on it."""
        until = time.monotonic() + HANG
        with selectors.DefaultSelector() as selector:
            selector.register(self.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise Failed(f"not within {HANG:g} s: a message; its errors: {self._errors.read_text()}")
                piece = os.read(self.stdout.fileno(), 65536)
                if not piece:
                    raise Failed(f"it ended: {self._errors.read_text()}")
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return dict(json.loads(line))

    def ask(self, method: str, params: Document | None = None) -> Document:
        """Make a request and return its response; notifications before it are dropped."""
        identity = self.request(method, params)
        while True:
            message = self.hear()
            if message.get("id") == identity:
                return message

    def request(self, method: str, params: Document | None = None) -> int:
        self.ids += 1
        self.say({"jsonrpc": "2.0", "id": self.ids, "method": method, "params": params or {}})
        return self.ids

    def initialize(self, **capabilities: object) -> Document:
        """Shake hands."""
        about = {"name": "raw", "version": "0"}
        params = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": about}
        answer = self.ask("initialize", params)
        self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return dict(answer["result"])

    def call(self, tool: str, **arguments: object) -> Document:
        """Call a tool; return {structuredContent, isError, …}."""
        answer = self.ask("tools/call", {"name": tool, "arguments": arguments})
        assert "result" in answer, answer
        return dict(answer["result"])

    def close(self) -> None:
        """Kill it, if it lives, and close the pipes."""
        self.process.kill()
        self.process.wait()
        for stream in (self.stdin, self.stdout):
            with contextlib.suppress(OSError):
                stream.close()


@contextlib.contextmanager
def raw(person: Person, environment: dict[str, str] | None = None, cwd: Path | None = None) -> Iterator[Raw]:
    """The server program, killed at the end if it has not ended."""
    program = Raw(person, environment, cwd)
    try:
        yield program
    finally:
        program.close()
