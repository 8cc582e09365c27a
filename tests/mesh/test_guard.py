"""Who may call the loopback API: each header of a web page's request, of another origin or host, or doubled."""

from __future__ import annotations

from typing import Any, cast

import pytest

from peer.api.routes import application
from peer.machine.settings import Settings
from peer.node.node import Node

TOKEN = "t0ken"
HOST = (b"host", b"127.0.0.1:8001")
BEARER = (b"authorization", b"Bearer t0ken")


class Reloaded:
    """A node of which only `reload` is asked, and where it is signed in; it counts."""

    def __init__(self) -> None:
        self.times = 0
        self.settings = Settings()

    async def reload(self) -> None:
        self.times += 1


async def call(node: Reloaded, headers: list[tuple[bytes, bytes]], version: str = "1.1", path: str = "") -> int:
    """POST /v1/reload with exactly these headers; return the status."""
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": version,
        "method": "GET" if path else "POST",
        "scheme": "http",
        "path": path or "/v1/reload",
        "raw_path": b"/v1/reload",
        "query_string": b"token=" + TOKEN.encode(),
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }
    await application(cast(Node, node), TOKEN)(cast(Any, scope), receive, send)
    return int(said[0]["status"])


@pytest.mark.parametrize(
    "headers",
    [
        [HOST, BEARER],
        [(b"host", b"localhost"), BEARER],
        [(b"host", b"[::1]:8001"), BEARER],
        [HOST, BEARER, (b"origin", b"http://127.0.0.1:8001"), (b"sec-fetch-site", b"same-origin")],
    ],
)
async def test_this_machines_own_programs_may_call(headers: list[tuple[bytes, bytes]]) -> None:
    node = Reloaded()
    assert await call(node, headers) == 200
    assert node.times == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([HOST], 401),
        ([HOST, (b"authorization", b"Bearer other")], 401),
        ([HOST, (b"authorization", b"Basic t0ken")], 401),
        ([BEARER], 403),
        *(
            ([(b"host", host), BEARER], 403)
            for host in (
                b"",
                b"evil.example",
                b"evil.example:127.0.0.1",
                b"127.0.0.1:8001.evil.example",
                b"127.0.0.1.evil.example",
                b"127.0.0.1@evil.example:80",
                b"localhost:",
                b"0.0.0.0:8001",
            )
        ),
        ([HOST, BEARER, (b"origin", b"null")], 403),
        ([HOST, BEARER, (b"origin", b"http://evil.example")], 403),
        ([HOST, BEARER, (b"origin", b"http://127.0.0.1:9")], 403),
        ([HOST, BEARER, (b"sec-fetch-site", b"cross-site")], 403),
        ([HOST, BEARER, (b"sec-fetch-site", b"same-site")], 403),
        ([(b"host", b"evil.example"), HOST, BEARER], 422),
        ([HOST, (b"authorization", b"Bearer other"), BEARER], 422),
        ([HOST, BEARER, (b"origin", b"http://evil.example"), (b"Origin", b"http://127.0.0.1:8001")], 422),
        ([HOST, BEARER, (b"sec-fetch-site", b"cross-site"), (b"sec-fetch-site", b"none")], 422),
    ],
)
async def test_nobody_else_may(headers: list[tuple[bytes, bytes]], status: int) -> None:
    node = Reloaded()
    assert await call(node, headers) == status
    assert node.times == 0


async def test_only_http_1_is_spoken() -> None:
    node = Reloaded()
    assert await call(node, [HOST, BEARER], version="2") == 403
    assert node.times == 0


async def test_a_wrong_event_number_is_the_callers_fault() -> None:
    assert await call(Reloaded(), [HOST, BEARER, (b"last-event-id", b"-5")], path="/v1/dispatches/x/events") == 422
