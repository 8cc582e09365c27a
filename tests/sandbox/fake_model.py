"""A scripted model on loopback that speaks the Messages API's stream: what the tests put behind the
proxy. No policy.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sandbox.model_api.anthropic.api import AnthropicMessages
from sandbox.model_api.interface import Allowance
from sandbox.model_api.proxy import ModelProxy
from sandbox.policy.decision import GRANTABLE_TOOLS
from tests.conftest import HANG

Turn = dict[str, Any]


def say(text: str) -> Turn:
    return {"type": "text", "text": text}


def call(name: str, **arguments: Any) -> Turn:
    return {
        "type": "tool_use",
        "id": f"toolu_{abs(hash((name, str(arguments)))):024d}"[:30],
        "name": name,
        "input": arguments,
    }


class FakeModel:
    """``turns``: the content block answered to each request in turn; the last is repeated. ``seen``:
    (path, headers, body) of each request. ``answers``: (status, headers, body) given in turn in place of turns, the
    last of them again and again.
    """

    def __init__(self, turns: Sequence[Turn], answers: Sequence[tuple[int, dict[str, str], bytes]] = ()) -> None:
        self.turns = list(turns)
        self.answers = list(answers)
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.url = ""
        self.raw = b""
        self.answer_with: tuple[int, dict[str, str], bytes] | None = None
        self.hold = threading.Event()
        self.hold.set()

    def next_turn(self, body: dict[str, Any]) -> Turn:
        # The position in the script is how many tool results the conversation holds: requests on the side
        # do not shift it.
        done = sum(
            1
            for message in body.get("messages", [])
            if isinstance(message.get("content"), list)
            for block in message["content"]
            if block.get("type") == "tool_result"
        )
        return self.turns[min(done, len(self.turns) - 1)]


def stream(turn: Turn, model: str) -> list[tuple[str, dict[str, Any]]]:
    usage = {
        "input_tokens": 100,
        "output_tokens": 1,
        "cache_read_input_tokens": 10,
        "cache_creation_input_tokens": 20,
    }
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "usage": usage,
    }
    start: dict[str, Any]
    if turn["type"] == "text":
        start = {"type": "text", "text": ""}
        delta, stop = {"type": "text_delta", "text": turn["text"]}, "end_turn"
    else:
        start = {**turn, "input": {}}
        delta, stop = {"type": "input_json_delta", "partial_json": json.dumps(turn["input"])}, "tool_use"
    return [
        ("message_start", {"type": "message_start", "message": message}),
        ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": start}),
        ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        (
            "message_delta",
            {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 50}},
        ),
        ("message_stop", {"type": "message_stop"}),
    ]


@contextmanager
def serving(model: FakeModel, *, certificate: tuple[Path, Path] | None = None) -> Iterator[FakeModel]:
    """``certificate``: its file and its key's, for TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            model.raw = self.rfile.read(int(self.headers["content-length"] or 0))
            body = json.loads(model.raw or b"{}")
            model.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            model.hold.wait(HANG)
            if model.answers:
                model.answer_with = model.answers.pop(0)
            if model.answer_with is not None:
                status, headers, answer = model.answer_with
                self.send_response(status)
                for name, value in {"content-length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)
                self.close_connection = headers.get("connection") == "close"
                return
            events = stream(model.next_turn(body), body["model"])
            if body.get("stream"):
                answer = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events).encode()
                kind = "text/event-stream; charset=utf-8"
            else:
                full = dict(events[0][1]["message"])
                full["content"] = [model.next_turn(body)]
                full["usage"] = {**full["usage"], "output_tokens": 50}
                answer, kind = json.dumps(full).encode(), "application/json"
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    model.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}"
    try:
        yield model
    finally:
        model.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def model_proxy(base_url: str | None, api_key: str | None, **options: Any) -> ModelProxy:
    """A proxy to the Messages API that allows every tool and asks for no secret, unless `options` say otherwise."""
    given = {"budget_usd": 5, "allowance": Allowance(GRANTABLE_TOOLS), "secret": None, **options}
    return ModelProxy(AnthropicMessages(), base_url, api_key, **given)
