"""Who may call the loopback API as the local page: each route that changes something, each header that is wrong."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from peer.api.page import policy
from peer.api.page.guard import Guard
from peer.api.page.sessions import Sessions
from peer.api.page.shell import VIEWS
from peer.api.routes import application
from peer.client.blocking import SignIn
from peer.machine.state_folder import StateFolder
from peer.node.node import Node

OWN = b"http://127.0.0.1:8001"
HOST = (b"host", b"127.0.0.1:8001")
ORIGIN = (b"origin", OWN)
Headers = list[tuple[bytes, bytes]]


class Door:
    """The guard, and behind it an application that only says who came through."""

    def __init__(self, folder: Path) -> None:
        self.sessions = Sessions(lambda: StateFolder(folder), lambda: 1_000)
        opened = self.sessions.sign_in(self.sessions.new_code())
        self.cookie = (b"cookie", f"other=1; dispatch-page-8001={opened.cookie}".encode())
        self.key = (b"x-dispatch-page", opened.key.encode())
        self.reached = 0
        self.sign_in = SignIn("https://broker.example", "its-token")
        self.answer: dict[bytes, bytes] = {}

    async def call(self, headers: Headers, method: str = "POST", path: str = "/v1/reload") -> int:
        said: list[Any] = []

        async def behind(scope: Any, receive: Any, send: Any) -> None:
            self.reached += 1
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "headers": headers}
        await Guard(cast(Any, behind), "t0ken", lambda: self.sessions, lambda: [self.sign_in])(scope, receive, send)
        self.answer = dict(said[0]["headers"])
        return int(said[0]["status"])


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def changing() -> list[tuple[str, str]]:
    app = cast(Starlette, application(cast(Node, SimpleNamespace()), "token"))
    found = [(method, route.path) for route in app.routes if isinstance(route, Route) for method in route.methods or ()]
    return sorted(pair for pair in found if pair[0] not in ("GET", "HEAD"))


@pytest.mark.parametrize(("method", "path"), [pair for pair in changing() if pair[1] != "/v1/page/sign-in"])
async def test_nothing_is_changed_but_by_the_page_itself(door: Door, method: str, path: str) -> None:
    whole = [HOST, ORIGIN, door.cookie, door.key]
    assert await door.call(whole, method, path) == 204
    assert await door.call([*whole, (b"sec-fetch-site", b"same-origin")], method, path) == 204
    reached = door.reached
    cases: list[tuple[int, Headers]] = [
        (403, [HOST, door.cookie, door.key]),  # a form of nobody knows where
        (403, [HOST, (b"origin", b"null"), door.cookie, door.key]),
        (403, [HOST, (b"origin", b"http://127.0.0.1:9"), door.cookie, door.key]),
        (403, [HOST, (b"origin", b"https://127.0.0.1:8001"), door.cookie, door.key]),
        (403, [*whole, (b"sec-fetch-site", b"same-site")]),
        (403, [*whole, (b"sec-fetch-site", b"cross-site")]),
        (403, [*whole, (b"referer", b"http://evil.example/")]),
        (403, [*whole, (b"referer", OWN + b".evil.example/")]),
        (403, [(b"host", b"evil.example:8001"), (b"origin", b"http://evil.example:8001"), door.cookie, door.key]),
        (401, [HOST, ORIGIN, door.cookie]),  # what a forged request of another page would carry
        (401, [HOST, ORIGIN, door.key]),
        (401, [HOST, ORIGIN, (b"cookie", b"dispatch-page-8001=guessed"), door.key]),
        (401, [HOST, ORIGIN, (b"cookie", door.cookie[1].replace(b"8001", b"8002")), door.key]),
        (401, [HOST, ORIGIN, (b"cookie", door.cookie[1] + b"; dispatch-page-8001=guessed"), door.key]),
        (401, [HOST, ORIGIN, door.cookie, (b"x-dispatch-page", b"guessed")]),
        (401, [*whole, (b"authorization", b"Bearer wrong")]),
        (422, [*whole, (b"x-dispatch-page", b"guessed")]),
        (422, [*whole, (b"cookie", b"dispatch-page-8001=guessed")]),
    ]
    for status, headers in cases:
        assert await door.call(headers, method, path) == status, headers
    assert door.reached == reached


@pytest.mark.parametrize(
    "path", ["/v1/whoami", "/v1/dispatches", "/v1/page/stream", "/v1/dispatches/x/files/returned/0", "/v1/approvals"]
)
async def test_nothing_is_read_but_by_the_page_itself(door: Door, path: str) -> None:
    assert await door.call([HOST, door.cookie, door.key], "GET", path) == 204
    cases: list[tuple[int, Headers]] = [
        (401, [HOST]),
        (401, [HOST, door.cookie]),  # an EventSource, image or frame of another page carries no more than this
        (401, [HOST, door.key]),
        (403, [HOST, door.cookie, door.key, (b"sec-fetch-site", b"cross-site")]),
        (403, [HOST, door.cookie, door.key, (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document"),
               (b"sec-fetch-site", b"cross-site")]),
        (403, [HOST, door.cookie, door.key, (b"origin", b"http://localhost:8001")]),
        (403, [HOST, door.cookie, door.key, (b"referer", b"http://localhost:8001/")]),
        (403, [(b"host", b"rebound.example"), door.cookie, door.key]),
    ]  # fmt: skip
    for status, headers in cases:
        assert await door.call(headers, "GET", path) == status, headers
    assert door.reached == 1


async def test_an_ended_session_opens_nothing(door: Door) -> None:
    whole = [HOST, ORIGIN, door.cookie, door.key]
    cookie = door.cookie[1].decode().rpartition("=")[2]
    session = door.sessions.find(cookie, door.key[1].decode())
    assert session is not None
    door.sessions.end(session)
    assert await door.call(whole) == 401 and door.reached == 0


async def test_only_the_page_signs_in(door: Door) -> None:
    path = "/v1/page/sign-in"
    assert await door.call([HOST, ORIGIN], "POST", path) == 204
    for headers in (
        [HOST],
        [HOST, (b"origin", b"http://evil.example")],
        [HOST, ORIGIN, (b"sec-fetch-site", b"same-site")],
    ):
        assert await door.call(headers, "POST", path) == 403
    assert door.reached == 1


@pytest.mark.parametrize("path", VIEWS)
async def test_the_shell_opens_as_a_document_of_its_own_and_not_otherwise(door: Door, path: str) -> None:
    link = [(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate"), (b"sec-fetch-dest", b"document")]
    assert await door.call([HOST], "GET", path) == 204
    assert await door.call([HOST, *link], "GET", path) == 204
    assert await door.call([HOST, *link], "POST", path) == 403
    assert await door.call([HOST], "POST", path) == await door.call([HOST, ORIGIN], "DELETE", path) == 403
    assert await door.call([(b"host", b"rebound.example"), *link], "GET", path) == 403
    for dest in (b"iframe", b"embed", b"object", b"script", b"image"):
        assert await door.call([HOST, *link[:2], (b"sec-fetch-dest", dest)], "GET", path) == 403
    assert await door.call([HOST, (b"sec-fetch-site", b"same-site")], "GET", path) == 403
    assert door.reached == 2


async def test_every_answer_is_armoured(door: Door) -> None:
    for headers, path in (
        ([HOST], "/"),
        ([HOST], "/v1/whoami"),
        ([], "/"),
        ([HOST, door.cookie, door.key], "/v1/whoami"),
    ):
        await door.call(headers, "GET", path)
        for name, value in policy.HEADERS:
            assert door.answer[name] == value, name
        assert b"frame-ancestors 'none'" in door.answer[b"content-security-policy"]
        assert door.answer[b"cache-control"] == b"no-store"
        assert not any(name.startswith(b"access-control") for name in door.answer)
    for forbidden in ("unsafe", "*", "http", "data:"):
        assert forbidden not in policy.PAGE.replace("'self'", "")
    # Seen to fail for each of them with it taken out, or allowed for another origin.
    assert {one.strip() for one in policy.PAGE.split(";")} == {
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        *(f"{what} 'none'" for what in ("base-uri", "form-action", "frame-ancestors", "trusted-types")),
        "require-trusted-types-for 'script'",
    }
