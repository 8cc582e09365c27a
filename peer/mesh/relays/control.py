"""The control connection to one relay: proving who this device is, being rung, ringing. When to have one: relays.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from peer.mesh.relays import websocket
from peer.mesh.relays.websocket import Route
from peer.protocol.errors import NO_FIX, DispatchError, Forbidden, Invalid, RateLimited, Unavailable
from peer.protocol.relays import admission, messages
from peer.protocol.relays.messages import Incoming, OwnMessage, Probed, Refusal, Ticket

log = structlog.get_logger(__name__)

Answer: TypeAlias = Ticket | Probed | Refusal

PING_EVERY: Final = 30.0
DEAD_AFTER: Final = 60.0
"""Seconds without an answer to a ping: the network changed, or the relay is gone."""
_HANDSHAKE: Final = 10.0
_SENT_WITHIN: Final = 10.0
ASKED_AT_ONCE: Final = 32
"""Rings and probes of ours without an answer yet."""
_MAX_UNKNOWN: Final = 64
_REFUSED: Final = frozenset({4401, 4403})
"""Close codes after which the same proof is refused again."""


class RelayControl:
    """One relay. `run` is one connection's life; `ring` works while it is `up`."""

    def __init__(
        self,
        origin: str,
        *,
        seed: bytes,
        device: str,
        route: Route,
        chosen: bool,
        token: Callable[[], bytes],
        tags: Callable[[], tuple[bytes, ...]],
        incoming: Callable[[str, Incoming], Awaitable[None]],
    ) -> None:
        """`token()`: what admits this device, b"" for nothing. `tags()`: where it is rung, [] for nowhere.

        `incoming(origin, message)` is called for each ring, and must not wait for long.
        """
        self.origin = origin
        self._seed, self._device = seed, device
        self._route, self.chosen = route, chosen
        self._token, self._tags, self._incoming = token, tags, incoming
        self._connection: WebSocketConnection | None = None
        self._number = 0
        self._asked: dict[int, trio.MemorySendChannel[Answer]] = {}
        self._news, self._doubt = trio.Event(), trio.Event()
        self._proofs_within = DEAD_AFTER
        self._told_token = b""
        self._told_tags: tuple[bytes, ...] = ()
        self.up = trio.Event()
        """Set while this device is admitted."""

    def prove(self, within: float) -> None:
        """End the connection unless the relay answers a ping within so many seconds."""
        self._proofs_within = within
        self._doubt.set()

    def changed(self) -> None:
        """Tell the relay soon: the token or the tags changed."""
        self._news.set()

    async def run(self, on_up: Callable[[], None] = lambda: None) -> DispatchError:
        """Connect and serve until the connection ends; return why. Forbidden: the relay does not admit this device."""
        # Returned, since a nursery would wrap what its block raises.
        async with trio.open_nursery() as nursery:
            try:
                why = await self._serve(nursery, on_up)
            except DispatchError as error:
                why = error
            except ConnectionClosed as error:
                why = self._ended(error)
            except trio.TooSlowError:
                why = Unavailable(f"relay {self.origin} does not answer", fix=NO_FIX)
            nursery.cancel_scope.cancel()
        return why

    async def _serve(self, nursery: trio.Nursery, on_up: Callable[[], None]) -> DispatchError:
        connection = await websocket.open_websocket(
            nursery,
            self.origin,
            messages.CONTROL_PATH,
            route=self._route,
            chosen=self.chosen,
            max_message=messages.MAX_MESSAGE,
        )
        try:
            with trio.fail_after(_HANDSHAKE):
                await self._prove(connection)
            self._connection = connection
            self.up.set()
            on_up()
            nursery.start_soon(self._keep_told, connection)
            nursery.start_soon(self._keep_alive, connection)
            nursery.start_soon(self._prove_when_asked, connection)
            return await self._hear(connection)
        finally:
            self._connection = None
            if self.up.is_set():  # else somebody may be waiting for it
                self.up = trio.Event()
            for answer in self._asked.values():
                answer.close()
            self._asked.clear()
            await websocket.close(connection)

    async def ring(self, tag: bytes, sealed: bytes) -> bytes:
        """Ring at a tag; return the ticket of the pipe. Raises Unavailable, RateLimited."""
        answer = await self._ask(lambda number: messages.Ring(number, tag, sealed))
        if not isinstance(answer, Ticket):
            raise self._not_understood()
        return answer.ticket

    async def probe(self, port: int) -> Probed:
        """Have this device dialled back at a port; return what the relay sent where. Raises Unavailable, RateLimited.

        A relay that is older than probes does not answer.
        """
        answer = await self._ask(lambda number: messages.Probe(number, port))
        if not isinstance(answer, Probed):
            raise self._not_understood()
        return answer

    async def _ask(self, asking: Callable[[int], OwnMessage]) -> Ticket | Probed:
        """Send the message that has this number; return what answers it. Raises Unavailable, RateLimited."""
        connection = self._connection
        if connection is None or len(self._asked) >= ASKED_AT_ONCE:
            raise Unavailable(f"relay {self.origin} is not connected", fix=NO_FIX)
        self._number = (self._number + 1) % (1 << 32)
        number = self._number
        giving, receiving = trio.open_memory_channel[Answer](1)
        self._asked[number] = giving
        try:
            with trio.fail_after(_HANDSHAKE):
                await _send(connection, asking(number))
                answer = await receiving.receive()
        except (trio.TooSlowError, trio.EndOfChannel, ConnectionClosed) as error:
            raise Unavailable(f"relay {self.origin} does not answer", fix=NO_FIX) from error
        finally:
            self._asked.pop(number, None)
        if isinstance(answer, Refusal):
            raise RateLimited(f"relay {self.origin} takes no more from this device right now", fix=NO_FIX)
        return answer

    # --- one connection

    async def _prove(self, connection: WebSocketConnection) -> None:
        match await _receive(connection):
            case messages.Challenge(nonce, origin) if origin == self.origin:
                pass
            case messages.Challenge():
                # It would pass our signature on to the relay whose challenge that is.
                raise Unavailable(f"another relay answers at {self.origin}", fix="check its address")
            case _:
                raise self._not_understood()
        self._told_token = self._token()
        signature = admission.sign_proof(self._seed, nonce=nonce, origin=self.origin)
        await _send(connection, messages.Proof(self._device, signature, self._told_token))
        if not isinstance(await _receive(connection), messages.Welcome):
            raise self._not_understood()
        # Before anybody is told that this device is here.
        self._told_tags = self._tags()
        await _send(connection, messages.Listen(self._told_tags))

    async def _keep_told(self, connection: WebSocketConnection) -> None:
        """Send token and tags, at first and whenever they change."""
        while True:
            self._news = trio.Event()
            if (tags := self._tags()) != self._told_tags:
                self._told_tags = tags
                await _send_or_end(connection, messages.Listen(tags))
            if (token := self._token()) != self._told_token and token:
                self._told_token = token
                await _send_or_end(connection, messages.Renewal(token))
            await self._news.wait()

    async def _keep_alive(self, connection: WebSocketConnection) -> None:
        while True:
            if not await self._answers(connection, DEAD_AFTER):
                return
            await trio.sleep(PING_EVERY)

    async def _prove_when_asked(self, connection: WebSocketConnection) -> None:
        while True:
            await self._doubt.wait()
            self._doubt = trio.Event()
            if not await self._answers(connection, self._proofs_within):
                return

    async def _answers(self, connection: WebSocketConnection, within: float) -> bool:
        """Return whether a ping is answered in time; where it is not, the connection is closed."""
        try:
            with trio.fail_after(within):
                await connection.ping()
        except ConnectionClosed:
            return False  # its reader says so too
        except trio.TooSlowError:
            await websocket.close(connection)
            return False
        return True

    async def _hear(self, connection: WebSocketConnection) -> DispatchError:
        unknown = 0
        while True:
            message = await _receive(connection)
            match message:
                case Ticket() | Probed() | Refusal():
                    self._answer(message)
                case messages.Incoming():
                    await self._incoming(self.origin, message)
                case messages.Unknown() if unknown < _MAX_UNKNOWN:
                    unknown += 1
                case _:
                    return self._not_understood()

    def _answer(self, answer: Answer) -> None:
        if (waiting := self._asked.pop(answer.number, None)) is not None:
            waiting.send_nowait(answer)

    def _ended(self, error: ConnectionClosed) -> DispatchError:
        if error.reason is not None and error.reason.code in _REFUSED:
            # Its words are not shown: whoever runs a relay is a stranger.
            return Forbidden(
                f"relay {self.origin} does not serve this device",
                fix="choose another with `dispatch config set relays`",
            )
        return Unavailable(f"the connection to relay {self.origin} has ended", fix=NO_FIX)

    def _not_understood(self) -> Unavailable:
        return Unavailable(f"{self.origin} does not answer like a relay", fix="check its address")


async def open_pipe(
    nursery: trio.Nursery, origin: str, ticket: bytes, *, route: Route, chosen: bool, within: float
) -> WebSocketConnection:
    """Take one end of a pipe; return once the other side is there, within so many seconds. Raises Unavailable."""
    connection = await websocket.open_websocket(
        nursery, origin, messages.PIPE_PATH, route=route, chosen=chosen, max_message=messages.MAX_PIECE
    )
    try:
        with trio.fail_after(within):
            await _send(connection, messages.Join(ticket))
            if not isinstance(await _receive(connection), messages.Joined):
                raise Unavailable(f"{origin} does not answer like a relay", fix="check its address")
    except (ConnectionClosed, trio.TooSlowError) as error:
        await websocket.close(connection)
        raise Unavailable(f"the other device does not answer through relay {origin}", fix=NO_FIX) from error
    except BaseException:
        await websocket.close(connection)
        raise
    return connection


async def _receive(connection: WebSocketConnection) -> messages.Message:
    message = await connection.get_message()
    if isinstance(message, bytes):
        try:
            return messages.decode(message)
        except Invalid:
            pass
    raise Unavailable("that is not a message of a relay", fix=NO_FIX)


async def _send(connection: WebSocketConnection, message: OwnMessage) -> None:
    with trio.fail_after(_SENT_WITHIN):
        await connection.send_message(messages.encode(message))


async def _send_or_end(connection: WebSocketConnection, message: OwnMessage) -> None:
    try:
        await _send(connection, message)
    except (ConnectionClosed, trio.TooSlowError):
        await websocket.close(connection)  # which ends its reader, and with it everything
