"""A model that says what a script tells it: the Anthropic Messages API on loopback, with canned turns.

It ships with the product because `dispatch demo` uses it: there everything is real (broker, daemons,
signatures, approvals, sandbox, the claude program) but the model's words, which come from here. Tests use
it too, through its settable hooks. It thinks nothing, checks no schema, and is not a proxy.

Which turn is said depends on the conversation in the request alone, never on a counter: the tool results in
it are counted, and the first turn whose calls they do not cover yet comes next. So several conversations
may share one model, and a retried request gets the same answer.

A script is `{"turns": [turn, …]}`, a turn any of
    {"text": "…"}                                          words; the last turn has only words
    {"text": "…", "tools": [{"name": …, "input": {…}}]}    words, and tool calls (an "id" each, or one is
    made) {"error": {"status": 401, "type": "…", "message": "…"}, "times": 1}   an API error; "times": then
    go on
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
import trio

_BODY_LIMIT: Final = 64 * 1024 * 1024
_REMEMBERED: Final = 500
Turn = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """What was asked: `path` without its query, lower-case `headers`, and the JSON `body` ({} where there
    is none).
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]

    @property
    def is_main(self) -> bool:
        """Whether this is the agent's conversation, rather than one of its side calls (a title, a quota
        check).
        """
        return bool(self.body.get("tools")) or "max_tokens" not in self.body or self.body["max_tokens"] > 1024

    @property
    def tool_results(self) -> list[Mapping[str, Any]]:
        """Every tool_result block of the conversation so far, in order."""
        return [block for block in _blocks(self.body) if block.get("type") == "tool_result"]

    @property
    def text(self) -> str:
        """All text of the conversation so far, tool results included, for tests to look into."""
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
        """The remembered requests that belong to the agent's own conversation."""
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
        turn: Turn = self._turn(request) if request.is_main else {"text": "A dispatched task"}
        if "error" in turn:
            error: Mapping[str, Any] = turn["error"]
            return int(error["status"]), _error(error.get("type", "api_error"), error["message"]), False
        message = _message(request, turn)
        if request.body.get("stream"):
            return 200, b"".join(_events(message)), True
        return 200, json.dumps(message).encode(), False

    def _turn(self, request: Request) -> Turn:
        answered = len(request.tool_results)
        for index, turn in enumerate(self.turns):
            if "error" in turn:
                if answered == 0 and self._errors_given.get(index, 0) < turn.get("times", sys.maxsize):
                    self._errors_given[index] = self._errors_given.get(index, 0) + 1
                    return turn
                continue
            calls = len(turn.get("tools", ()))
            if answered < calls or calls == 0:
                return turn
            answered -= calls
        return {"text": "The script has no more turns."}


def _blocks(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for message in body.get("messages", ()):
        content = message.get("content")
        if isinstance(content, list):
            yield from (block for block in content if isinstance(block, dict))


def _tokens(text: str) -> int:
    return len(text) // 4 + 1  # near enough for a count that only a budget reads


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


def _message(request: Request, turn: Turn) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if turn.get("text"):
        content.append({"type": "text", "text": turn["text"]})
    for number, tool in enumerate(turn.get("tools", ())):
        made = f"toolu_{len(request.tool_results) + number:04d}"
        content.append(
            {
                "type": "tool_use",
                "id": tool.get("id", made),
                "name": tool["name"],
                "input": tool.get("input", {}),
            }
        )
    return {
        "id": f"msg_{len(request.tool_results):04d}",
        "type": "message",
        "role": "assistant",
        "model": request.body.get("model", "scripted"),
        "content": content,
        "stop_reason": "tool_use" if turn.get("tools") else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": _tokens(request.text), "output_tokens": _tokens(json.dumps(content))},
    }


def _events(message: Mapping[str, Any]) -> Iterator[bytes]:
    """The message as the API streams it: https://docs.anthropic.com/en/api/messages-streaming."""
    usage = message["usage"]
    opening = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield _event("message_start", message=opening)
    for index, block in enumerate(message["content"]):
        empty: dict[str, Any]
        if block["type"] == "text":
            empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield _event("content_block_start", index=index, content_block=empty)
        yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield _event("message_delta", delta=ending, usage={"output_tokens": usage["output_tokens"]})
    yield _event("message_stop")


def _event(kind: str, **data: Any) -> bytes:
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


def _json(body: bytes) -> Mapping[str, Any]:
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
    """`python -m sandbox.testing.scripted_model --script FILE [--port N] [--key KEY]`: print the URL, then
    serve.
    """
    parser = argparse.ArgumentParser(prog="scripted_model", description="A model that says what a script tells it.")
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
