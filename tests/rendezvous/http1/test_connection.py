"""Connections as their clients see them: what is answered, what ends them, what is bounded."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import structlog
import trio
import trio.testing
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from rendezvous.connections import ConnectionLimits, serve_within
from rendezvous.http1 import connection
from rendezvous.http1.connection import Timeouts
from rendezvous.listening import listening, port_of
from rendezvous.web import wait_while_connected
from tests.conftest import HANG

HEAD = b"HTTP/1.1\r\nHost: a\r\n"
LAST = HEAD + b"Connection: close\r\n\r\n"

Answer = Callable[[Request], Awaitable[Response]]


class Served:
    """A server with one function that answers everything."""

    def __init__(self, port: int, stop: trio.Event) -> None:
        self.port = port
        self.stop = stop

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send, and return all that comes until the connection ends."""
        async with await self.connect() as stream:
            for piece in pieces:
                await stream.send_all(piece)
            return await everything(stream)


async def everything(stream: trio.SocketStream) -> bytes:
    with trio.fail_after(HANG):
        return b"".join([data async for data in stream])


async def until(stream: trio.SocketStream, end: bytes) -> bytes:
    """Receive until what came ends with `end`."""
    received = b""
    with trio.fail_after(HANG):
        while not received.endswith(end):
            data = await stream.receive_some()
            assert data, received
            received += data
    return received


@asynccontextmanager
async def served(answer: Answer, **timeouts: float) -> AsyncIterator[Served]:
    """Serve until the block ends; all connections have to end then."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (await answer(Request(scope, receive)))(scope, receive, send)

    started, stop = trio.Event(), trio.Event()
    with trio.fail_after(HANG):
        async with listening("127.0.0.1", 0, backlog=10) as listeners, trio.open_nursery() as nursery:
            serve = partial(serve_within, app, listeners, tls=None, limits=ConnectionLimits(), started=started)
            nursery.start_soon(partial(serve, until=stop.wait, timeouts=Timeouts(**timeouts)))
            await started.wait()
            try:
                yield Served(port_of(listeners), stop)
            finally:
                stop.set()


async def echo(request: Request) -> Response:
    return PlainTextResponse(f"{request.method} {request.url.path}|{(await request.body()).decode()}|")


async def test_one_request_after_the_other_and_those_sent_ahead() -> None:
    async with served(echo) as server, await server.connect() as stream:
        for number in range(3):
            await stream.send_all(b"GET /%d %s\r\n" % (number, HEAD))
            said = await until(stream, b"|")
            assert said.startswith(b"HTTP/1.1 200 OK\r\n") and said.endswith(b"\r\n\r\nGET /%d||" % number)
            assert b"\r\ndate: " in said and b"connection: close" not in said
        await stream.send_all(b"".join(b"POST /%d %sContent-Length: 1\r\n\r\nx" % (n, HEAD) for n in range(5)))
        said = await until(stream, b"POST /4|x|")
        assert [b"POST /%d|x|" % n in said for n in range(5)] == [True] * 5
        await stream.send_all(b"GET /%25%C3%A9?q " + LAST)
        assert (await everything(stream)).endswith("connection: close\r\n\r\nGET /%é||".encode())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET http://a/ " + HEAD + b"\r\n", 400),
        (b"OPTIONS * " + HEAD + b"\r\n", 400),
        (b"CONNECT a:1 " + HEAD + b"\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / " + HEAD + b"X: " + b"x" * 20_000, 431),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET / " + LAST, 200),
        (b"GET / " + HEAD + b"\r\nnonsense", 200),
        (b"GET / " + HEAD + b"\r\nGET / HTTP/1.1\r\n\r\n", 200),
    ],
)
async def test_what_ends_a_connection_is_answered_first(sent: bytes, status: int) -> None:
    async with served(echo) as server:
        assert (await server.exchange(sent)).startswith(b"HTTP/1.1 %d " % status)


async def test_a_request_behind_a_refused_one_is_not_answered() -> None:
    async with served(echo) as server:
        said = await server.exchange(b"GET / HTTP/1.1\r\n\r\nGET /hidden " + HEAD + b"\r\n")
        assert said.startswith(b"HTTP/1.1 400") and said.count(b"HTTP/1.1") == 1


async def test_behind_the_last_answer_comes_nothing() -> None:
    """Seen to fail where what a client sends behind its last request is refused, too."""
    async with served(echo) as server:
        said = await server.exchange(b"GET / " + LAST + b"nonsense\r\n\r\n")
        assert said.endswith(b"connection: close\r\n\r\nGET /||") and said.count(b"HTTP/1.1") == 1


async def test_a_body_is_asked_for_where_its_client_waits_to_be() -> None:
    async with served(echo) as server, await server.connect() as stream:
        await stream.send_all(b"POST / " + HEAD + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await until(stream, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send_all(b"ab")
        assert (await until(stream, b"|ab|")).startswith(b"HTTP/1.1 200")


async def test_a_head_is_asked_for_without_a_body_and_204_has_none() -> None:
    async def answer(request: Request) -> Response:
        return Response(status_code=204) if request.url.path == "/none" else await echo(request)

    async with served(answer) as server:
        said = await server.exchange(b"HEAD / " + HEAD + b"\r\n", b"GET /none " + LAST)
        assert b"content-length: 8\r\n" in said and b"HEAD /||" not in said
        assert said.endswith(b"connection: close\r\n\r\n") and b"HTTP/1.1 204 No Content\r\n" in said


async def test_an_answer_to_a_body_that_nobody_read_arrives_whole() -> None:
    """Seen to fail where the connection is closed at once: its client gets a reset in place of the answer."""

    async def refuse(_request: Request) -> Response:
        return PlainTextResponse("x" * 100_000, status_code=413)

    async with served(refuse) as server, await server.connect() as stream:
        await stream.send_all(b"POST / " + HEAD + b"Content-Length: 900000\r\n\r\n")
        with trio.fail_after(HANG):
            while not await stream.receive_some(1):
                pass
            await stream.send_all(b"y" * 800_000)
        assert len(await everything(stream)) > 100_000


async def test_who_leaves_is_not_waited_for() -> None:
    """Seen to fail without the watch: the request would wait on."""
    waits, left = trio.Event(), trio.Event()

    async def wait(request: Request) -> Response:
        waits.set()
        try:
            await wait_while_connected(request, trio.CancelScope(), until=trio.current_time() + HANG)
        finally:
            left.set()
        raise AssertionError

    async with served(wait) as server:
        async with await server.connect() as stream:
            await stream.send_all(b"GET / " + HEAD + b"\r\n")
            await waits.wait()
        await left.wait()


async def test_what_is_sent_ahead_does_not_end_a_wait() -> None:
    told = trio.CancelScope()

    async def wait(request: Request) -> Response:
        if request.url.path == "/wait":
            await wait_while_connected(request, told, until=trio.current_time() + HANG)
        return PlainTextResponse(f"GET {request.url.path}||")

    async with served(wait) as server, await server.connect() as stream:
        await stream.send_all(b"GET /wait " + HEAD + b"\r\n")
        await stream.send_all(b"GET /next " + HEAD + b"\r\nnonsense")
        await trio.testing.wait_all_tasks_blocked()
        told.cancel()
        said = await everything(stream)
        assert said.index(b"GET /wait||") < said.index(b"GET /next||") < said.index(b"HTTP/1.1 400")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHo", b"POST / " + HEAD + b"Content-Length: 1\r\n\r\n"])
async def test_who_sends_nothing_more_is_given_up(sent: bytes) -> None:
    """Between requests, in a head; in a body by the application, which has its own bound."""

    async def answer(request: Request) -> Response:
        with trio.move_on_after(0.05):
            return await echo(request)
        return Response("late", status_code=408)

    idle = 0.05 if not sent else 1000.0
    async with served(answer, idle=idle, head=0.05) as server:
        said = await server.exchange(sent)
        assert said.startswith(b"HTTP/1.1 408") if sent.startswith(b"POST") else said == b""


async def test_who_takes_nothing_of_an_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BYTES_A_SECOND", 1e9)

    given_up = trio.Event()

    class Large(Response):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await super().__call__(scope, receive, send)
            finally:
                given_up.set()

    async def large(_request: Request) -> Response:
        return Large(b"x" * 30_000_000)

    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with served(large, sending=0.1) as server:
            slow.connect(("127.0.0.1", server.port))
            slow.sendall(b"GET / " + HEAD + b"\r\n")
            await given_up.wait()


async def test_a_stop_lets_what_is_under_way_end_and_idle_ones_at_once() -> None:
    """Seen to fail where idle connections are left, or those at work are cut."""
    working, go_on = trio.Event(), trio.Event()

    async def answer(request: Request) -> Response:
        working.set()
        await go_on.wait()
        return await echo(request)

    async with served(answer) as server, await server.connect() as idle, await server.connect() as busy:
        await busy.send_all(b"GET / " + HEAD + b"\r\n")
        await working.wait()
        server.stop.set()
        assert await everything(idle) == b""
        go_on.set()
        assert (await everything(busy)).endswith(b"connection: close\r\n\r\nGET /||")


async def test_an_application_that_fails_ends_its_connection_alone() -> None:
    async def answer(request: Request) -> Response:
        if request.url.path == "/fails":
            raise KeyError("secret")
        if request.url.path == "/split":
            return Response(headers={"x-bad": "a\r\nset-cookie: b"})
        return await echo(request)

    with structlog.testing.capture_logs() as logs:
        async with served(answer) as server:
            assert await server.exchange(b"GET /fails " + HEAD + b"\r\n") == b""
            assert await server.exchange(b"GET /split " + HEAD + b"\r\n") == b""
            assert (await server.exchange(b"GET / " + LAST)).endswith(b"GET /||")
    assert [(entry["event"], entry["kind"]) for entry in logs] == [
        ("request.failed", "KeyError"),
        ("request.failed", "ValueError"),
    ]
