"""A relay on a real socket with a clock the test owns, and a client that speaks its protocol."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import trio
from nacl.signing import SigningKey
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket
from wsproto import ConnectionType
from wsproto.connection import Connection
from wsproto.events import BytesMessage

from peer.protocol import cose, names
from peer.protocol.relays import admission as tokens
from peer.protocol.relays import messages
from peer.protocol.relays.messages import (
    CONTROL_PATH,
    PIPE_PATH,
    SUBPROTOCOL,
    Challenge,
    Incoming,
    Join,
    Joined,
    Listen,
    Proof,
    Ring,
    Ticket,
    Welcome,
)
from rendezvous.listening import listening, port_of
from rendezvous.proxies import proxy_networks
from rendezvous.relay.admission import Admission
from rendezvous.relay.limits import RelayLimits
from rendezvous.relay.relay import Relay, wall_clock
from rendezvous.relay.serving import serve
from tests.conftest import HANG

SECRET = b"correct horse battery staple, or so"
BY_SECRET = Admission(secret=SECRET)
HOUR_MS = 3600 * 1000


@dataclass(frozen=True)
class Keys:
    """A device's key pair."""

    seed: bytes = field(default_factory=lambda: os.urandom(32))

    @property
    def device(self) -> str:
        return names.peer_id_text(names.peer_id_of(bytes(SigningKey(self.seed).verify_key)))


@dataclass(frozen=True)
class Broker:
    """A broker's key for relays."""

    seed: bytes = field(default_factory=lambda: os.urandom(32))

    @property
    def public(self) -> bytes:
        return cose.public_key(self.seed)

    def token(self, device: str, *, user: bytes = b"u" * 16, lasts_ms: int = HOUR_MS) -> bytes:
        return tokens.sign_token(self.seed, device=device, expires=wall_clock() + lasts_ms, user=user)


class Client:
    """One WebSocket to a relay."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket

    async def send(self, message: messages.OwnMessage) -> None:
        await self.socket.send_message(messages.encode(message))

    async def receive(self) -> messages.Message:
        with trio.fail_after(HANG):
            raw = await self.socket.get_message()
        assert isinstance(raw, bytes)
        return messages.decode(raw)

    async def closed(self) -> tuple[int, str]:
        """Wait until the relay closes; return its code and reason."""
        with trio.fail_after(HANG):
            while True:
                try:
                    await self.socket.get_message()
                except ConnectionClosed as closed:
                    assert closed.reason is not None
                    return closed.reason.code, closed.reason.reason or ""

    async def ring(self, number: int, tag: bytes, sealed: bytes = b"proof") -> messages.Message:
        await self.send(Ring(number, tag, sealed))
        return await self.receive()

    async def ticket(self, tag: bytes) -> bytes:
        answer = await self.ring(1, tag)
        assert isinstance(answer, Ticket), answer
        return answer.ticket

    async def listen(self, *tags: bytes) -> None:
        """Listen, and wait until that has been taken up: messages are answered in order."""
        await self.send(Listen(tags))
        await self.socket.ping()
        assert isinstance(await self.ring(99, b"no such tag at all"[:16]), Ticket)

    async def incoming(self) -> Incoming:
        message = await self.receive()
        assert isinstance(message, Incoming), message
        return message


class ByHand:
    """One WebSocket whose frames the test makes and reads itself; it answers no ping."""

    def __init__(self, stream: trio.SocketStream, after: bytes) -> None:
        self.stream = stream
        self.frames = Connection(ConnectionType.CLIENT, trailing_data=after)

    async def send(self, message: bytes) -> None:
        await self.stream.send_all(self.frames.send(BytesMessage(data=message)))

    async def message(self) -> bytes:
        with trio.fail_after(HANG):
            while True:
                for event in self.frames.events():
                    if isinstance(event, BytesMessage):
                        return bytes(event.data)
                self.frames.receive_data(await self.stream.receive_some())

    async def rest(self) -> bytes:
        """Return all that comes until the relay closes."""
        received = b""
        with trio.fail_after(HANG), suppress(trio.BrokenResourceError):
            async for data in self.stream:
                received += data
        return received


def upgrade(path: str, *more: str, protocol: str = SUBPROTOCOL) -> bytes:
    """Return the request that opens a WebSocket."""
    lines = (
        f"GET {path} HTTP/1.1",
        "Host: relay",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {protocol}",
        *more,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Running:
    """A running relay: where it is, and its inside."""

    def __init__(self, port: int, relay: Relay) -> None:
        self.port = port
        self.relay = relay

    @asynccontextmanager
    async def socket(self, path: str, *, max_message_size: int = 1 << 20) -> AsyncIterator[Client]:
        async with open_websocket(
            "127.0.0.1",
            self.port,
            path,
            use_ssl=False,
            subprotocols=[SUBPROTOCOL],
            max_message_size=max_message_size,
            connect_timeout=HANG,
            disconnect_timeout=HANG,
        ) as socket:
            yield Client(socket)

    async def connect(self, local: str = "127.0.0.1") -> trio.SocketStream:
        """Open a connection from one of this machine's addresses."""
        return await trio.open_tcp_stream("127.0.0.1", self.port, local_address=local)

    @asynccontextmanager
    async def by_hand(self, path: str) -> AsyncIterator[ByHand]:
        async with await self.connect() as stream:
            await stream.send_all(upgrade(path))
            received = b""
            with trio.fail_after(HANG):
                while b"\r\n\r\n" not in received:
                    received += await stream.receive_some()
            assert received.startswith(b"HTTP/1.1 101 ") and b"Extensions" not in received
            yield ByHand(stream, received.partition(b"\r\n\r\n")[2])

    @asynccontextmanager
    async def challenged(self) -> AsyncIterator[tuple[Client, Challenge]]:
        async with self.socket(CONTROL_PATH) as client:
            challenge = await client.receive()
            assert isinstance(challenge, Challenge)
            yield client, challenge

    @asynccontextmanager
    async def control(self, keys: Keys, token: bytes = SECRET) -> AsyncIterator[Client]:
        """A control connection that was admitted."""
        async with self.challenged() as (client, challenge):
            await client.send(proof(keys, challenge, token))
            assert isinstance(await client.receive(), Welcome)
            yield client

    @asynccontextmanager
    async def pipe(self, ticket: bytes) -> AsyncIterator[Client]:
        """The connection of a pipe's end, its ticket sent."""
        async with self.socket(PIPE_PATH) as client:
            await client.send(Join(ticket))
            yield client

    @asynccontextmanager
    async def joined(self, caller: Client, callee: Client, tag: bytes) -> AsyncIterator[tuple[Client, Client]]:
        """Both ends of a pipe."""
        ticket = await caller.ticket(tag)
        incoming = await callee.incoming()
        async with self.pipe(ticket) as near, self.pipe(incoming.ticket) as far:
            assert await near.receive() == Joined() == await far.receive()
            yield near, far

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what no event announces."""
        with trio.fail_after(HANG):
            while not holds():
                await trio.sleep(0.005)


def proof(keys: Keys, challenge: Challenge, token: bytes = SECRET, *, origin: str = "") -> Proof:
    signature = tokens.sign_proof(keys.seed, nonce=challenge.nonce, origin=origin or challenge.origin)
    return Proof(keys.device, signature, token)


@asynccontextmanager
async def running_relay(
    *,
    limits: RelayLimits = RelayLimits(),
    admission: Admission = BY_SECRET,
    proxies: tuple[str, ...] = (),
    clock: Callable[[], int] = wall_clock,
    origin: str = "",
) -> AsyncIterator[Running]:
    """Serve on 127.0.0.1 until the block ends, then stop as SIGTERM would. Nothing may be left of anybody then.

    `origin`: what its clients dial, where that is not its own port.
    """
    async with listening("127.0.0.1", 0, backlog=limits.connections) as listeners, trio.open_nursery() as nursery:
        port = port_of(listeners)
        relay = Relay(
            origin or f"http://127.0.0.1:{port}", admission, limits=limits, proxies=proxy_networks(proxies), clock=clock
        )
        started, stop = trio.Event(), trio.Event()
        nursery.start_soon(partial(serve, relay, listeners, tls=None, started=started, stop=stop))
        await started.wait()
        try:
            yield Running(port, relay)
        finally:
            stop.set()
    relay.registry.expire(relay.now() + 60_000)
    assert relay.registry.is_empty() and not relay.connections and not len(relay.open) and not len(relay.handshakes)


@asynccontextmanager
async def two(running: Running, tag: bytes = b"t" * 16) -> AsyncIterator[tuple[Client, Client]]:
    """A caller, and a callee that listens at `tag`."""
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(running.control(Keys()))
        callee = await stack.enter_async_context(running.control(Keys()))
        await callee.listen(tag)
        yield caller, callee
