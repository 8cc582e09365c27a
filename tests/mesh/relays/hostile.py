"""A relay that does what a test tells it to: it stands for those that strangers run. The real one: rendezvous/relay."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from peer.protocol.relays import messages as m


@dataclass
class HostileRelay:
    """By default it joins whom it should; a test replaces single steps of it."""

    origin: str = ""
    claims: str = ""
    """The origin that it says it has."""
    challenge: bytes = field(default_factory=lambda: os.urandom(32))
    connections: int = 0
    """Control connections so far."""
    proofs: list[m.Proof] = field(default_factory=list)
    devices: dict[str, WebSocketConnection] = field(default_factory=dict)
    lists: list[m.Listen] = field(default_factory=list)
    tags: dict[bytes, WebSocketConnection] = field(default_factory=dict)
    rings: list[m.Ring] = field(default_factory=list)
    joined: list[bytes] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)
    tickets: dict[bytes, str] = field(default_factory=dict)
    waiting: dict[str, WebSocketConnection] = field(default_factory=dict)
    welcome: bool = True
    passes_on: Callable[[bytes], bytes] = lambda piece: piece
    """What becomes of each piece of a pipe."""
    on_ring: Callable[[m.Ring], Awaitable[None]] | None = None
    first_words: list[bytes | str] = field(default_factory=list)
    """Said on a control connection before anything else."""

    def noted(self) -> None:
        self.news.set()
        self.news = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was noted makes the condition true."""
        while not condition():
            await self.news.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[HostileRelay]:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve_websocket, self._serve, "127.0.0.1", 0, None))
            self.origin = f"http://127.0.0.1:{server.port}"
            yield self
            nursery.cancel_scope.cancel()

    async def _serve(self, request: WebSocketRequest) -> None:
        connection = await request.accept(subprotocol=m.SUBPROTOCOL)
        with suppress(ConnectionClosed):
            if request.path == m.CONTROL_PATH:
                await self._control(connection)
            else:
                await self._pipe(connection)

    async def _control(self, connection: WebSocketConnection) -> None:
        self.connections += 1
        for word in self.first_words:
            await connection.send_message(word)
        await connection.send_message(m.encode(m.Challenge(self.challenge, self.claims or self.origin)))
        proof = await _received(connection)
        assert isinstance(proof, m.Proof)
        self.proofs.append(proof)
        self.devices[proof.device] = connection
        self.noted()
        if not self.welcome:
            await connection.aclose(4403, "no")
            return
        await connection.send_message(m.encode(m.Welcome(0)))
        while True:
            message = await _received(connection)
            if isinstance(message, m.Listen):
                self.lists.append(message)
                self.tags |= dict.fromkeys(message.tags, connection)
            elif isinstance(message, m.Ring):
                self.rings.append(message)
                if self.on_ring is not None:
                    await self.on_ring(message)
                else:
                    await self.announce(message)
                    await self.give_ticket(connection, message)
            self.noted()

    async def give_ticket(self, connection: WebSocketConnection, ring: m.Ring) -> None:
        ticket = os.urandom(16)
        self.tickets[ticket] = ring.tag.hex()
        await connection.send_message(m.encode(m.Ticket(ring.number, ticket)))

    async def announce(self, ring: m.Ring) -> None:
        """Tell whoever listens at the tag."""
        if (callee := self.tags.get(ring.tag)) is not None:
            ticket = os.urandom(16)
            self.tickets[ticket] = ring.tag.hex()
            await callee.send_message(m.encode(m.Incoming(ring.tag, ring.sealed, ticket)))

    async def _pipe(self, connection: WebSocketConnection) -> None:
        join = await _received(connection)
        assert isinstance(join, m.Join)
        self.joined.append(join.ticket)
        pipe = self.tickets[join.ticket]
        self.noted()
        other = self.waiting.pop(pipe, None)
        if other is None:
            self.waiting[pipe] = connection
            await connection._close_handshake.wait()
            return
        for end in (other, connection):
            await end.send_message(m.encode(m.Joined()))
        async with trio.open_nursery() as nursery:
            for ends in ((other, connection), (connection, other)):
                nursery.start_soon(self._pass_on, *ends, nursery.cancel_scope)
        for end in (other, connection):
            await end.aclose()

    async def _pass_on(self, one: WebSocketConnection, other: WebSocketConnection, scope: trio.CancelScope) -> None:
        with suppress(ConnectionClosed):
            while True:
                piece = await one.get_message()
                assert isinstance(piece, bytes)
                await other.send_message(self.passes_on(piece))
        scope.cancel()


async def _received(connection: WebSocketConnection) -> m.Message:
    message = await connection.get_message()
    assert isinstance(message, bytes)
    return m.decode(message)
