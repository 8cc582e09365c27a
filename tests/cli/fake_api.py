"""A fake of the daemon's loopback API: real HTTP on 127.0.0.1 in a thread, answers set by the test, requests kept.

It knows nothing of dispatches; what it answers is what the test wrote, or the well-formed documents of `documents.py`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from peer.machine.state_folder import StateFolder
from tests.conftest import HANG

TOKEN = "local-token-of-the-fake"


def page_of_calls(*calls: Any, next_page: str | None = None) -> dict[str, Any]:
    """What `GET /v1/approvals` answers with these; `next_page` where there are more."""
    return {"approvals": list(calls), "more": next_page is not None, "next": next_page}


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


Answer = tuple[int, Any] | Callable[[Asked], Any]


class Stream(NamedTuple):
    """(kind, document) pairs; `cut` closes the connection after so many; a gate is waited for before its event."""

    events: list[tuple[str, Any]]
    cut: int | None = None
    gates: dict[int, threading.Event] | None = None


class FakeApi:
    def __init__(self, folder: StateFolder) -> None:
        self.folder = folder
        self.answers: dict[tuple[str, str], Answer] = {}
        self.streams: dict[str, list[Stream]] = {}
        self.asked: list[Asked] = []
        self.chunked = False
        self.raw: bytes | None = None
        self.changed = threading.Condition()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def answer(self) -> None:
                parts = urlsplit(self.path)
                size = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(size)
                asked = Asked(
                    self.command,
                    unquote(parts.path),
                    {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()},
                    json.loads(raw) if raw else None,
                    {k.lower(): v for k, v in self.headers.items()},
                )
                with api.changed:
                    api.asked.append(asked)
                    api.changed.notify_all()
                self.close_connection = True
                if api.raw is not None:
                    self.wfile.write(api.raw)
                    return
                if asked.headers.get("authorization") != f"Bearer {TOKEN}":
                    self.reply(401, {"error": {"code": 401, "message": "wrong local token", "fix": "restart"}})
                    return
                if asked.path.endswith("/events"):
                    self.stream(asked)
                    return
                try:
                    found = api.answers[asked.method, asked.path]
                except KeyError:
                    error = {"code": 404, "message": f"the fake has no {asked.method} {asked.path}", "fix": ""}
                    self.reply(404, {"error": error})
                    return
                result = found(asked) if callable(found) else found
                status, document = result if isinstance(result, tuple) else (200, result)
                self.reply(status, document)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def reply(self, status: int, document: Any) -> None:
                data = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if api.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    for start in range(0, len(data), 7):
                        part = data[start : start + 7]
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                    self.wfile.write(b"0\r\n\r\n")
                else:
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def stream(self, asked: Asked) -> None:
                dispatch_id = asked.path.split("/")[3]
                waiting = api.streams.get(dispatch_id)
                if not waiting:
                    error = {"code": 404, "message": f"the fake has no events of {dispatch_id}", "fix": ""}
                    self.reply(404, {"error": error})
                    return
                script = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                after = int(asked.headers.get("last-event-id", "0"))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()

                def write(text: str) -> None:
                    data = text.encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    self.wfile.flush()

                write(": hello\n\n")
                for number, (kind, document) in enumerate(script.events, 1):
                    if number <= after:
                        continue
                    if script.cut is not None and number > script.cut:
                        return
                    if script.gates and number in script.gates:
                        script.gates[number].wait(HANG)
                    write(f"event: {kind}\nid: {number}\ndata: {json.dumps(document)}\n\n")
                self.wfile.write(b"0\r\n\r\n")

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                if not isinstance(sys.exception(), ConnectionError):  # the client may leave in the middle
                    super().handle_error(request, client_address)  # type: ignore[arg-type]

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port: int = self.server.server_address[1]

    def __setitem__(self, route: str, answer: Answer | dict[str, Any] | list[Any]) -> None:
        """`api["GET /v1/whoami"] = document`, or (status, document), or a function of the request."""
        method, path = route.split(" ", 1)
        self.answers[method, path] = answer if isinstance(answer, tuple) or callable(answer) else (200, answer)

    def fails(self, route: str, code: int, message: str, fix: str = "") -> None:
        self[route] = (code, {"error": {"code": code, "message": message, "fix": fix}})

    def bodies(self, method: str, path: str) -> list[Any]:
        return [asked.body for asked in self.asked if (asked.method, asked.path) == (method, path)]

    def wait_for(self, method: str, path: str, count: int = 1) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.bodies(method, path)) >= count, timeout=HANG)


@contextmanager
def running(folder: StateFolder) -> Iterator[FakeApi]:
    """Run a fake whose token and port are in `folder`, as the daemon's would be."""
    api = FakeApi(folder)
    folder.write_private(folder.local_token, TOKEN.encode())
    folder.write_private(folder.daemon_json, json.dumps({"pid": os.getpid(), "port": api.port}).encode())
    thread = threading.Thread(target=api.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        api.server.shutdown()
        api.server.server_close()
        thread.join()
