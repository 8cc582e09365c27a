"""MCP's stdio transport on trio: lines of JSON-RPC to and from the SDK's streams. No message is interpreted here.

Not the SDK's own transport: that one reads standard input in a thread, which a signal or a cancellation ends only after
more than 6 s; this one ends at once. The descriptors are the copies that `handshake.claim_stdio` made.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import trio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from mcp_plugin.host import Host

MAX_LINE = 4 * 1024 * 1024
"""Bytes of one message: the largest is a dispatch whose task and background are four-byte characters, escaped."""
CHUNK = 64 * 1024
MAX_DEPTH = 64
"""Nesting of a message: more than the arguments of any tool have, little enough for every parser involved."""

Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing = MemoryObjectSendStream[SessionMessage]


class StdioTransport:
    """The connection to one host; owns its descriptors."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._handshake_id = host.handshake.answered

    @asynccontextmanager
    async def streams(self) -> AsyncIterator[tuple[Incoming, Outgoing]]:
        """Yield the SDK's pair of streams; the receiving one ends when the host closes its side."""
        to_server, from_host = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_host, from_server = anyio.create_memory_object_stream[SessionMessage](0)
        replies, outbox = trio.open_memory_channel[JSONRPCMessage](8)
        incoming, outgoing = trio.lowlevel.FdStream(self._host.incoming), trio.lowlevel.FdStream(self._host.outgoing)
        async with incoming, outgoing, trio.open_nursery() as nursery:
            nursery.start_soon(self._read, incoming, to_server, replies)
            nursery.start_soon(self._collect, from_server, replies.clone())
            nursery.start_soon(self._write, outgoing, outbox)
            yield from_host, to_host
            nursery.cancel_scope.cancel()

    async def _read(
        self,
        stream: trio.lowlevel.FdStream,
        to_server: MemoryObjectSendStream[SessionMessage | Exception],
        replies: trio.MemorySendChannel[JSONRPCMessage],
    ) -> None:
        async with to_server, replies:
            async for line in lines(stream, self._host.handshake.read):
                message = parse(line)
                if isinstance(message, JSONRPCError) and message.id is None:
                    await replies.send(message)  # the error for an unreadable line; the SDK does not see it
                    continue
                try:
                    await to_server.send(SessionMessage(message))
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return
            self._host.left()

    async def _collect(
        self, from_server: MemoryObjectReceiveStream[SessionMessage], replies: trio.MemorySendChannel[JSONRPCMessage]
    ) -> None:
        async with from_server, replies:
            async for item in from_server:
                await replies.send(item.message)

    async def _write(self, stream: trio.lowlevel.FdStream, outbox: trio.MemoryReceiveChannel[JSONRPCMessage]) -> None:
        async with outbox:
            async for message in outbox:
                if isinstance(message, JSONRPCResponse) and message.id == self._handshake_id:
                    self._handshake_id = None  # answered before the SDK was loaded; a later request may reuse the id
                    continue
                try:
                    await stream.send_all(message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                except trio.BrokenResourceError:
                    return  # the host no longer reads: it is ending, which _read notices
                if isinstance(message, JSONRPCResponse):
                    self._host.answered.set()


async def lines(stream: trio.abc.ReceiveStream, before: bytes = b"") -> AsyncIterator[bytes | None]:
    """Yield each line of a stream, `before` being its beginning, read already. Empty lines are left out.

    A line of more than MAX_LINE bytes is skipped, and None yielded in its place.
    """
    rest = bytearray()
    skipping = False
    while True:
        try:
            chunk, before = before or await stream.receive_some(CHUNK), b""
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        if not chunk:
            return
        *whole, last = chunk.split(b"\n")
        for piece in whole:
            rest += piece
            if skipping or len(rest) > MAX_LINE:
                yield None
            elif rest.strip():
                yield bytes(rest)
            rest.clear()
            skipping = False
        rest += last
        if len(rest) > MAX_LINE:
            rest.clear()
            skipping = True


def parse(line: bytes | None) -> JSONRPCMessage:
    """Return the message in a line, or the error that answers a line without one (JSON-RPC 2.0, section 5.1)."""
    if line is None:
        return _unreadable(INVALID_REQUEST, f"a message has at most {MAX_LINE} bytes")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return _unreadable(PARSE_ERROR, "that is not JSON")
    if not isinstance(document, dict):
        return _unreadable(INVALID_REQUEST, "a message is one JSON object")
    if "id" in document and (isinstance(document["id"], bool) or not isinstance(document["id"], str | int)):
        return _unreadable(
            INVALID_REQUEST, "an id is a text or a whole number"
        )  # the SDK would take it for a notification
    if _too_deep(document):
        return _unreadable(INVALID_REQUEST, "that message is nested too deeply")
    try:
        return jsonrpc_message_adapter.validate_python(document, by_name=False)
    except ValueError:
        return _unreadable(INVALID_REQUEST, "that is not a JSON-RPC 2.0 message")


def _unreadable(code: int, message: str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=None, error=ErrorData(code=code, message=message))


def _too_deep(document: object) -> bool:
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return False
    return True
