"""A stand-in for the Anthropic Messages API on loopback, whose turns are given. It checks no schema and is no proxy.

Three use it: the gate's proof, `dispatch demo` (there all is real, the claude program too, but for the model's words),
and tests, through its hooks.

Which turn an answer gives depends on the conversation in the request alone, never on a counter: the tool results in it
are counted, and the first turn whose calls they do not cover yet comes next. So several conversations may share one
model, and a retried request gets the same answer.

A script is `{"turns": [turn, …]}`, a turn any of
    {"text": "…"}                                                               words; the last turn has only words
    {"text": "…", "tools": [{"name": …, "input": {…}}]}                         words, and tool calls
    {"error": {"status": 401, "type": "…", "message": "…"}, "times": 1}         an API error; "times": then go on
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import h11
import msgspec
import trio

_BODY_LIMIT: Final = 64 * 1024 * 1024
_REMEMBERED: Final = 500
Json = Mapping[str, Any]  # the body of a request: only what a test or a turn needs of it is looked at
Turn = Mapping[str, object]


class _Tool(msgspec.Struct):
    name: str
    input: dict[str, object] = {}
    id: str | None = None


class _Error(msgspec.Struct):
    status: int
    message: str
    type: str = "api_error"


class _Turn(msgspec.Struct):
    text: str = ""
    thinking: str = ""
    """Before the text; some more of it, that only the API can read, follows."""
    tools: list[_Tool] = []
    error: _Error | None = None
    times: int = sys.maxsize


@dataclass(frozen=True)
class Request:
    """A request: `path` without its query, lower-case `headers`, and the JSON `body` ({} where there is none)."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Json

    @property
    def is_main(self) -> bool:
        """Whether this is the agent's conversation, rather than one of its side calls (a title, a quota check)."""
        return bool(self.body.get("tools")) or "max_tokens" not in self.body or self.body["max_tokens"] > 1024

    @property
    def tool_results(self) -> list[Json]:
        """Every tool_result block of the conversation so far, in order."""
        return [block for block in _blocks(self.body) if block.get("type") == "tool_result"]

    @property
    def opening(self) -> str:
        """The first message of the conversation as JSON text."""
        return json.dumps(self.body.get("messages", ())[:1], ensure_ascii=False)

    @property
    def text(self) -> str:
        """The conversation so far as JSON text, tool results included."""
        return json.dumps([self.body.get("system"), self.body.get("messages")], ensure_ascii=False)


@dataclass
class ScriptedModel:
    """The server. Hooks: `on_request` is awaited before each answer (delay, or raise to drop the connection).

    `key`: when set, requests without it get the API's 401. `requests`: the last ones, oldest first.
    """

    turns: Sequence[Turn]
    key: str | None = None
    on_request: Callable[[Request], Awaitable[None]] | None = None
    requests: deque[Request] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    url: str = ""
    _errors_given: dict[int, int] = field(default_factory=dict)

    @asynccontextmanager
    async def running(self, *, port: int = 0) -> AsyncIterator[ScriptedModel]:
        """Serve on 127.0.0.1 while the context lasts; `url` is then set."""
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._connection, listeners)
            try:
                yield self
            finally:
                nursery.cancel_scope.cancel()

    def main_requests(self) -> list[Request]:
        """Of the last requests, those of the agent's own conversation."""
        return [request for request in self.requests if request.path == "/v1/messages" and request.is_main]

    async def _connection(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            async with stream:
                while True:
                    request = await _receive(connection, stream)
                    if request is None:
                        return
                    self.requests.append(request)
                    if self.on_request is not None:
                        await self.on_request(request)
                    status, body, streamed = self._answer(request)
                    await _respond(connection, stream, status, body, streamed=streamed)
                    if connection.our_state is not h11.DONE:
                        return
                    connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return  # the client left in the middle, as a cancelled run does

    def _answer(self, request: Request) -> tuple[int, bytes, bool]:
        if self.key is not None and self.key not in (
            request.headers.get("x-api-key"),
            request.headers.get("authorization", "").removeprefix("Bearer "),
        ):
            return 401, _error("authentication_error", "invalid x-api-key"), False
        if request.path == "/v1/messages/count_tokens":
            return 200, json.dumps({"input_tokens": _tokens(request.text)}).encode(), False
        if request.path != "/v1/messages" or request.method != "POST":
            return 404, _error("not_found_error", f"no {request.method} {request.path} here"), False
        turn = self._turn(request) if request.is_main else _Turn(text="A dispatched task")
        if turn.error is not None:
            return turn.error.status, _error(turn.error.type, turn.error.message), False
        if request.body.get("stream"):
            return 200, b"".join(_events(request, turn)), True
        return 200, json.dumps(_message(request, turn)).encode(), False

    def _turn(self, request: Request) -> _Turn:
        answered = len(request.tool_results)
        for index, turn in enumerate(msgspec.convert(self.turns, list[_Turn])):
            if turn.error is not None:
                if answered == 0 and self._errors_given.get(index, 0) < turn.times:
                    self._errors_given[index] = self._errors_given.get(index, 0) + 1
                    return turn
                continue
            calls = len(turn.tools)
            if answered < calls or calls == 0:
                return turn
            answered -= calls
        return _Turn(text="The script has no more turns.")


def _blocks(body: Json) -> Iterator[Json]:
    for message in body.get("messages", ()):
        content = message.get("content")
        if isinstance(content, list):
            yield from (block for block in content if isinstance(block, dict))


def _tokens(text: str) -> int:
    return len(text) // 4 + 1  # near enough for a count that only a budget reads


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


def _message(request: Request, turn: _Turn) -> dict[str, object]:
    return {
        "id": f"msg_{len(request.tool_results):04d}",
        "type": "message",
        "role": "assistant",
        "model": request.body.get("model", "scripted"),
        "content": (content := _content(request, turn)),
        "stop_reason": "tool_use" if turn.tools else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": _tokens(request.text), "output_tokens": _tokens(json.dumps(content))},
    }


def _content(request: Request, turn: _Turn) -> list[dict[str, object]]:
    content: list[dict[str, object]] = []
    if turn.thinking:
        content.append({"type": "thinking", "thinking": turn.thinking, "signature": "c2lnbmVk"})
        content.append({"type": "redacted_thinking", "data": "c2VhbGVk"})
    if turn.text:
        content.append({"type": "text", "text": turn.text, "citations": None})
    for number, tool in enumerate(turn.tools, len(request.tool_results)):
        call_id = tool.id or f"toolu_{number:04d}"
        content.append({"type": "tool_use", "id": call_id, "name": tool.name, "input": tool.input})
    return content


def _events(request: Request, turn: _Turn) -> Iterator[bytes]:
    """The message as the API streams it: https://docs.claude.com/en/api/messages-streaming."""
    message = _message(request, turn)
    content = _content(request, turn)
    counts = {"input_tokens": _tokens(request.text), "output_tokens": 1}
    yield _event("message_start", message={**message, "content": [], "stop_reason": None, "usage": counts})
    for index, block in enumerate(content):
        empty, deltas = _streamed(block)
        yield _event("content_block_start", index=index, content_block=empty)
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=ending, usage={"output_tokens": _tokens(json.dumps(content))})
    yield _event("message_stop")


def _streamed(block: dict[str, object]) -> tuple[dict[str, object], list[dict[str, object]]]:
    """What a block begins as, and what is added to it."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [{"type": "text_delta", "text": block["text"]}]
        case "thinking":
            deltas: list[dict[str, object]] = [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
            return {**block, "thinking": "", "signature": ""}, deltas
        case "tool_use":
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        case _:
            return block, []


def _event(kind: str, **data: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


async def _receive(connection: h11.Connection, stream: trio.SocketStream) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                await stream.send_all(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            connection.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _BODY_LIMIT:
                return None
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
            path = head.target.decode("latin-1").partition("?")[0]
            return Request(head.method.decode(), path, headers, _json(bytes(body)))
        else:
            return None


def _json(body: bytes) -> Json:
    try:
        value = json.loads(body) if body else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


async def _respond(
    connection: h11.Connection, stream: trio.SocketStream, status: int, body: bytes, *, streamed: bool
) -> None:
    kind = "text/event-stream; charset=utf-8" if streamed else "application/json"
    headers = [("content-type", kind), ("content-length", str(len(body))), ("request-id", "req_scripted")]
    for part in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
        await stream.send_all(connection.send(part) or b"")


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m … --script FILE [--port N] [--key KEY]`: print the URL, then serve."""
    parser = argparse.ArgumentParser(prog="scripted_model", description="A stand-in for a model, from a script.")
    parser.add_argument("--script", type=Path, required=True, help="JSON file: {turns: […]}")
    parser.add_argument("--port", type=int, default=0, help="0: any free one (default)")
    parser.add_argument("--key", help="answer 401 to requests without this API key")
    given = parser.parse_args(arguments)
    model = ScriptedModel(json.loads(given.script.read_text())["turns"], key=given.key)

    async def run() -> None:
        async with model.running(port=given.port):
            sys.stdout.write(f"{model.url}\n")
            sys.stdout.flush()
            await trio.sleep_forever()

    try:
        trio.run(run)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
