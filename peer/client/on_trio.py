"""The loopback client for trio: the routes of routes.py, awaited. Only the transport is here, not the API."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from peer.client.blocking import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    HOST,
    NO_SIGN_IN,
    DaemonUnreachable,
    Document,
    Event,
    EventStream,
    Interrupted,
    SignIn,
    as_object,
    decode,
    encode,
    find_daemon,
    not_answered,
    unreachable,
)
from peer.client.http import EndedEarly, Response
from peer.client.routes import Routes
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import DispatchError


class AsyncClient(Routes[Coroutine[Any, Any, Document]]):
    """Every method returns a coroutine; cancelling it closes its connection but does not undo the request."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder

    def sign_in(self) -> SignIn:
        """Return the sign-in that requests are meant for: whatever the daemon uses."""
        return NO_SIGN_IN

    async def approvals(self) -> list[Document]:
        """Return every tool call that waits for an answer, as Client.approvals."""
        page = await self.approvals_page()
        found: list[Document] = page["approvals"]
        while page["more"]:
            page = await self.approvals_page(before=page["next"])
            found += page["approvals"]
        return found

    async def events(self, dispatch_id: str, *, after: str = "") -> AsyncGenerator[Event, None]:
        """Yield events as Client.events. Use contextlib.aclosing to leave early."""
        stream = EventStream(dispatch_id, after)
        while True:
            failure: DispatchError | None = None
            try:
                port, token = find_daemon(self._folder)
                sign_in = self.sign_in()
                response = Response()
                async with _connected(port) as connection:
                    await connection.send_all(stream.request(port, token, sign_in))
                    while not response.complete:
                        response.feed(await connection.receive_some())
                        if response.status == 200:
                            for event in stream.read(response):
                                yield event
                                if event.kind == "end":
                                    return
                if response.status != 200:
                    decode(response)
            except (DaemonUnreachable, Interrupted) as error:
                failure = error
            await trio.sleep(stream.pause(failure))

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Document:
        return as_object(await self._exchange(method, path, body))

    async def _exchange(self, method: str, path: str, body: Mapping[str, object] | None) -> object:
        port, token = find_daemon(self._folder)
        sign_in = self.sign_in()
        response = Response()
        async with _connected(port) as connection:
            with trio.move_on_after(ANSWER_SECONDS) as scope:
                await connection.send_all(encode(method, path, port=port, token=token, body=body, sign_in=sign_in))
                while not response.complete:
                    response.feed(await connection.receive_some())
        if scope.cancelled_caught:
            raise not_answered()
        return decode(response)


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[trio.SocketStream]:
    try:
        with trio.fail_after(CONNECT_SECONDS):
            connection = await trio.open_tcp_stream(HOST, port)
    except (OSError, trio.TooSlowError):
        raise unreachable(port) from None
    async with connection:
        try:
            yield connection
        except (trio.BrokenResourceError, EndedEarly):
            raise Interrupted() from None
