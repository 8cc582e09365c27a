"""What one MCP server can make us hold or wait for, without a process: its lists, its results, its silence."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import mcp_types as types
import pytest
import trio
import trio.testing
from mcp import Client

from sandbox import frames
from sandbox.errors import SandboxError
from sandbox.mcp import server as mcp_server
from sandbox.mcp.server import (
    CALL_SECONDS,
    MESSAGE_LIMIT,
    SCHEMA_LIMIT,
    START_SECONDS,
    TEXT_LIMIT,
    TOOLS_LIMIT,
    ServerConnection,
    _pipes,
    _reply,
)
from sandbox.mcp.servers import _check


def connection(client: object = None) -> ServerConnection:
    made = ServerConnection(frames.McpServer(name="notes", command=["notes"]), spawn=cast(Any, None))
    made._client = cast(Any, client)
    return made


def tool(name: str = "say", **change: Any) -> types.Tool:
    return types.Tool.model_validate({"name": name, "inputSchema": {"type": "object"}, **change})


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (tool("a b"), "a name that cannot be used: a b"),
        (tool("x" * 65), "a name that cannot be used: " + "x" * 65),
        (tool("a\x1b[2J"), "a name that cannot be used: a\N{REPLACEMENT CHARACTER}[2J"),
        (tool(description="another"), "one tool too many: say"),
        (tool("long", description="x" * SCHEMA_LIMIT), f"a description over {SCHEMA_LIMIT} bytes: long"),
    ],
)
def test_a_tool_that_cannot_be_offered_is_left_out_and_named(second: types.Tool, why: str) -> None:
    one = connection()
    one._add(tool())
    one._add(second)
    assert [each.name for each in one.tools] == ["say"] and one.left_out == [why]
    assert one.listed == ["say", second.name], "so that it is looked at all the same"


@pytest.mark.parametrize("name", ["dispatch_send", "its dispatch_send"])
def test_a_server_is_refused_for_a_tool_that_is_not_offered_too(name: str) -> None:
    """Seen to fail with a look at the offered ones alone: they are 200 at most, and of names that can be used."""
    one = connection()
    for number in range(TOOLS_LIMIT):
        one._add(tool(f"tool{number}"))
    one._add(tool(name))
    assert len(one.tools) == TOOLS_LIMIT
    with pytest.raises(SandboxError, match="dispatch's own tools"):
        _check(one, r"(?i)(?:^|__| )dispatch_[a-z_]+$")


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Say"},
        {"description": "another"},
        {"inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}},
        {"annotations": {"readOnlyHint": True}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_pin_is_of_all_that_a_model_is_shown(change: dict[str, Any]) -> None:
    pins = []
    for given in ({}, change):
        one = connection()
        one._add(tool(**given))
        pins.append(one.tools[0].pin)
    assert pins[0] != pins[1]


async def test_a_list_without_end_ends() -> None:
    asked = 0

    async def list_tools(*, cursor: str | None) -> object:
        nonlocal asked
        asked += 1
        assert asked < 1_000
        return SimpleNamespace(tools=[], next_cursor=f"{asked}")

    with pytest.raises(ValueError, match="does not end"):
        await connection()._list(cast(Client, SimpleNamespace(list_tools=list_tools)))


async def test_a_call_that_is_not_answered_fails(autojump_clock: trio.testing.MockClock) -> None:
    async def call_tool(_tool: str, _arguments: object) -> None:
        await trio.sleep(2 * CALL_SECONDS)

    reply = await connection(SimpleNamespace(call_tool=call_tool)).call("say", {})
    assert not reply.ok and "did not answer within 300 s" in reply.text


async def test_what_an_error_says_is_short_and_hides_nothing() -> None:
    async def call_tool(_tool: str, _arguments: object) -> None:
        raise ValueError("\x1b[2J" + "x" * 10_000)

    reply = await connection(SimpleNamespace(call_tool=call_tool)).call("say", {})
    assert not reply.ok and "\x1b" not in reply.text and len(reply.text) < 2_100


def result(**given: Any) -> types.CallToolResult:
    return types.CallToolResult.model_validate({"content": [], **given})


@pytest.mark.parametrize(
    "large",
    [
        result(content=[{"type": "text", "text": "x" * 3_000_000}]),
        result(structuredContent={"a": "x" * 3_000_000}),
        result(content=[{"type": "image", "data": "eA==" * 750_000, "mimeType": "image/png"}]),
    ],
    ids=["text", "structured", "image"],
)
def test_a_result_over_the_limit_is_passed_on_as_a_short_text(large: types.CallToolResult) -> None:
    reply = _reply(large)
    assert reply.result is not None and len(reply.text) < TEXT_LIMIT + 100 and "[cut: " in reply.text
    assert len(json.dumps(reply.result.model_dump(mode="json"))) < TEXT_LIMIT + 500


async def test_a_server_that_says_nothing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    one = connection()
    one._spawn = lambda _command, _env: cast(Any, Silent())
    with trio.fail_after(2 * START_SECONDS), pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(one.run)
    assert "did not answer within 30 s" in str(caught.value.exceptions)


async def test_a_message_over_the_limit_ends_the_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after it would be read otherwise, so what the server sends has no bound."""
    monkeypatch.setattr(mcp_server, "MESSAGE_LIMIT", 1_000)
    assert MESSAGE_LIMIT == 8 * 1024 * 1024
    process = Silent()
    notice = b'{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "%s"}}\n'
    ended: list[bool] = []
    with trio.fail_after(60):
        async with _pipes(cast(Any, process), on_end=lambda: ended.append(True)) as (incoming, _):
            await process.say.send_all(notice % b"short" + notice % (b"x" * 2_000) + notice % b"short")
            await process.say.aclose()
            heard = [message async for message in incoming]
    assert len(heard) == 1


class Silent:
    """A process that starts and says nothing."""

    def __init__(self) -> None:
        self.stdin, _ = trio.testing.memory_stream_one_way_pair()
        self.say, self.stdout = trio.testing.memory_stream_one_way_pair()
        self._error, self.stderr = trio.testing.memory_stream_one_way_pair()

    async def __aenter__(self) -> Silent:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def wait(self) -> None:
        await trio.sleep_forever()
