"""Hosts for the tests: the SDK's client with the real server program, and people who answer its forms.

A host's person is not here: what they pick is said by the test, as the model of a host would pass it on.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
import trio
from mcp import Client, StdioServerParameters
from tests.system.world import WITHIN, Person

Document = dict[str, Any]
Chooser = Callable[[str, dict[str, str]], str | None]
"""What a person does with a form: its message and its titles by answer → the answer, None to close the form."""

READING = 1.3
"""Seconds that somebody needs who reads before they answer; the server takes 1.2 for the least."""


class Host:
    """One session: calls tools, hears progress, answers forms."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.progress: list[str] = []
        self.forms: list[tuple[str, dict[str, str]]] = []

    async def call(self, tool: str, **arguments: object) -> types.CallToolResult:
        async def heard(_progress: float, _total: float | None, message: str | None) -> None:
            self.progress.append(message or "")

        with trio.fail_after(WITHIN * 2):
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
        return document

    async def act(self, action: str, dispatch_id: str, **more: object) -> Document:
        return await self.ok("dispatch_act", action=action, dispatch_id=dispatch_id, **more)


@asynccontextmanager
async def session(
    person: Person,
    *,
    mode: str = "legacy",
    person_does: Chooser | None = None,
    reads: float = READING,
    environment: dict[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> AsyncIterator[Host]:
    """A host's session with the real server as its child. `person_does` answers forms; without it there are none.

    `reads`: seconds until a form is answered.
    """
    host: Host

    async def answer(_context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        assert isinstance(params, types.ElicitRequestFormParams) and person_does is not None
        (field,) = params.requested_schema["properties"].items()
        titles = {choice["const"]: choice["title"] for choice in field[1]["oneOf"]}
        host.forms.append((params.message, titles))
        chosen = person_does(params.message, titles)
        await trio.sleep(reads)
        if chosen is None:
            return types.ElicitResult(action="cancel")
        if chosen == "DECLINE":
            return types.ElicitResult(action="decline")
        return types.ElicitResult(action="accept", content={field[0]: chosen})

    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "mcp_plugin.main", *arguments],
        env=person.environment | (environment or {}),
        cwd=person.home,
    )
    with (person.home / "mcp.errors").open("a") as errors:
        from mcp.client.stdio import stdio_client

        client = Client(
            stdio_client(server, errlog=errors),
            mode=mode,  # type: ignore[arg-type]
            elicitation_callback=None if person_does is None else answer,
        )
        async with client:
            host = Host(client)
            yield host


async def until_pending(person: Person, dispatch_id: str) -> None:
    """Wait until the sender hears that a dispatch is in the inbox."""
    await trio.to_thread.run_sync(person.state_of, dispatch_id, "pending")
