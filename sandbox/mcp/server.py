"""One MCP server outside the sandbox: its process, the protocol with it, its tools and their pins, its results.

All that it sends is bounded in size and time. It may write what it likes on standard error, of which the end is kept,
and lines that are no messages on standard output, which are skipped. It is offered nothing that a client may offer: no
sampling, no roots, no questions to the person.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
import mcp_types as types
import trio
from mcp import Client
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage

from sandbox import frames
from sandbox.confinement import ConfinedProcess
from sandbox.errors import FrameError, SandboxError, quoted, root_of
from sandbox.mcp.bridge import Reply, Tool

START_SECONDS: Final = 30.0
"""From its start to its list of tools: a package runner may have to download it first."""
CALL_SECONDS: Final = 300.0
GRACE_SECONDS: Final = 0.3
"""For a server to end by itself once its input is closed."""
MESSAGE_LIMIT: Final = 8 * 1024 * 1024
OUTPUT_LIMIT: Final = 2 * 1024 * 1024
"""Bytes of one result as JSON; of a larger one its text alone is passed on, cut."""
TEXT_LIMIT: Final = 200_000
TOOLS_LIMIT: Final = 200
LISTED_LIMIT: Final = 1_000
"""Names that one server may list. One that lists more is refused whole: what was not read could not be refused."""
SCHEMA_LIMIT: Final = 64 * 1024
_PAGES: Final = 20
_STDERR_KEPT: Final = 4_096
_STDERR_LINES: Final = 5
_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


Spawn = Callable[[Sequence[str], Mapping[str, str]], ConfinedProcess]
"""Starts a command with this environment, its three streams as pipes."""


class ServerConnection:
    """A `ConnectedServer`. `run` keeps it alive; `tools`, `listed` and `left_out` are set once that has started."""

    def __init__(self, server: frames.McpServer, spawn: Spawn) -> None:
        self.name = server.name
        self.tools: list[Tool] = []
        self.listed: list[str] = []
        self.left_out: list[str] = []
        self._server = server
        self._spawn = spawn
        self._client: Client | None = None
        self._ended = trio.Event()
        self._stderr = bytearray()

    # Any: trio-typing's stubs, which libp2p installs, lack trio.TaskStatus.
    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Start it, report that it started, and keep it until cancelled. SandboxError 503 when it does not start."""
        process = self._spawn(self._server.command, self._server.env)
        async with process, trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_stderr, process)
            try:
                with trio.move_on_after(START_SECONDS) as start_scope:
                    async with Client(_pipes(process, self._ended.set), mode="legacy", cache=None) as client:
                        await self._list(client)
                        start_scope.deadline = math.inf
                        self._client = client
                        task_status.started()
                        await trio.sleep_forever()
                raise TimeoutError(f"it did not answer within {START_SECONDS:g} s")
            except Exception as problem:
                if self._client is not None:
                    # It ended in the middle of the run, which goes on; calls to this server fail.
                    self._client = None
                    await trio.sleep_forever()
                with trio.move_on_after(GRACE_SECONDS):
                    await process.wait()
                raise self._not_started(quoted(str(root_of(problem)), most=300)) from problem
            finally:
                self._client = None
                with trio.CancelScope(shield=True), trio.move_on_after(GRACE_SECONDS):
                    assert process.stdin is not None
                    await process.stdin.aclose()
                    await process.wait()
                nursery.cancel_scope.cancel()

    async def call(self, tool: str, arguments: dict[str, object]) -> Reply:
        """See `ConnectedServer`."""
        gone = Reply(False, f"the MCP server {self.name} has ended")
        if self._client is None or self._ended.is_set():
            return gone
        try:
            with trio.fail_after(CALL_SECONDS):
                result = await self._client.call_tool(tool, arguments)
        except trio.TooSlowError:
            return Reply(False, f"the MCP server {self.name} did not answer within {CALL_SECONDS:g} s")
        except Exception as problem:
            if self._ended.is_set():
                return gone
            # An error of the server or an invalid result: for the agent the call failed.
            return Reply(False, f"the MCP server {self.name} failed: {_neutral(str(problem))[:2_000]}")
        return _reply(result)

    async def _list(self, client: Client) -> None:
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await client.list_tools(cursor=cursor)
            if len(self.listed) + len(page.tools) > LISTED_LIMIT:
                raise ValueError(f"it lists more than {LISTED_LIMIT:,} tools")
            for tool in page.tools:
                self._add(tool)
            cursor = page.next_cursor
            if cursor is None:
                return
        raise ValueError("its list of tools does not end")

    def _add(self, tool: types.Tool) -> None:
        self.listed.append(tool.name)
        if not _TOOL_NAME.fullmatch(tool.name):
            self.left_out.append(f"a name that cannot be used: {_neutral(tool.name)[:100]}")
        elif len(self.tools) >= TOOLS_LIMIT or any(known.name == tool.name for known in self.tools):
            self.left_out.append(f"one tool too many: {tool.name}")
        else:
            shown = {"name", "title", "description", "input_schema", "annotations"}
            document = tool.model_dump(mode="json", by_alias=True, include=shown, exclude_none=True)
            text = json.dumps(document, sort_keys=True, separators=(",", ":"))
            if len(text) > SCHEMA_LIMIT:
                self.left_out.append(f"a description over {SCHEMA_LIMIT} bytes: {tool.name}")
                return
            pin = hashlib.sha256(text.encode()).hexdigest()
            self.tools.append(Tool(tool.name, tool.description or "", tool.input_schema, pin))

    def _not_started(self, reason: str) -> SandboxError:
        lines = [line for line in self._stderr.decode(errors="replace").splitlines() if line.strip()]
        last = quoted("\n".join(line.strip()[:300] for line in lines[-_STDERR_LINES:]), most=_STDERR_LINES * 310)
        error_output = f"; its last output: {last}" if last else ""
        return SandboxError(
            f"the MCP server {self.name} did not start: {reason}{error_output}",
            fix="start it by hand to see why, or remove it from the edge: `dispatch trust edit … --mcp-servers`",
            code=503,
        )

    async def _keep_stderr(self, process: ConfinedProcess) -> None:
        assert process.stderr is not None
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while chunk := await process.stderr.receive_some(65536):
                self._stderr += chunk
                del self._stderr[:-_STDERR_KEPT]


@asynccontextmanager
async def _pipes(process: ConfinedProcess, on_end: Callable[[], None]) -> AsyncIterator[TransportStreams]:
    """A process's standard streams as the SDK's client needs them; its own transport would start the process itself.

    `on_end` is called when it has closed its output, before the client learns of it.
    """
    incoming_send, incoming_receive = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing_send, outgoing_receive = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        assert process.stdout is not None
        with suppress(
            FrameError,
            trio.ClosedResourceError,
            trio.BrokenResourceError,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
        ):
            async with incoming_send:
                async for line in frames.lines(process.stdout, limit=MESSAGE_LIMIT):
                    with suppress(ValueError):
                        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                        await incoming_send.send(SessionMessage(message))
                on_end()

    async def write() -> None:
        assert process.stdin is not None
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            async with outgoing_receive:
                async for item in outgoing_receive:
                    line = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await process.stdin.send_all(line.encode() + b"\n")

    async with trio.open_nursery() as nursery, incoming_receive, outgoing_send:
        nursery.start_soon(read)
        nursery.start_soon(write)
        yield incoming_receive, outgoing_send
        nursery.cancel_scope.cancel()


def _reply(result: types.CallToolResult) -> Reply:
    texts = [item.text if isinstance(item, types.TextContent) else f"[{item.type}]" for item in result.content]
    text = "\n".join(texts)
    if not texts and result.structured_content is not None:
        text = json.dumps(result.structured_content)
    size = len(result.model_dump_json(by_alias=True))
    if size > OUTPUT_LIMIT:
        text = f"{text[:TEXT_LIMIT]}\n[cut: the result has {size} bytes]"
        passed = types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=result.is_error)
        return Reply(not result.is_error, text, passed)
    passed = types.CallToolResult(
        content=result.content, structured_content=result.structured_content, is_error=result.is_error
    )
    return Reply(not result.is_error, text, passed)


def _neutral(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
