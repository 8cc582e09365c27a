"""Inbound TCP connections in turns: accepted in one, and waiting for another after all that they send, until let in.

Stock accepts as fast as it can, and runs a step of every connection that has sent something in each pass of the event
loop. Whose turn it is: peer/protocol/turns.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

import structlog
import trio
from libp2p.custom_types import THandler
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.transport.tcp.tcp import TCP, TCPListener, _open_reuseport_listeners
from libp2p.utils.multiaddr_utils import extract_ip_from_multiaddr
from multiaddr import Multiaddr

from peer.mesh.guards.probes import ProbeOver
from peer.protocol.relays.messages import PROBE_BYTES, PROBE_LINE
from peer.protocol.turns import Place, Turns

log = structlog.get_logger(__name__)

MULTISTREAM: Final = b"\x13/multistream/1.0.0\n"
"""What whoever dials says first: a length, and a line of that length (multistream-select 1.0)."""

RECEIVED_AT_ONCE: Final = 4096
"""Bytes. libp2p reads a handshake by a length and then what is so long, and each would wait for a turn of its own."""


def later(seconds: float, what: Callable[[], object]) -> None:
    """Do something after so many seconds; 0: in the next pass of the event loop."""

    async def wait() -> None:
        await trio.sleep(seconds)
        what()

    if seconds:
        trio.lowlevel.spawn_system_task(wait)
    else:
        trio.lowlevel.current_trio_token().run_sync_soon(what)


class TurnStream(TrioTCPStream, trio.abc.AsyncResource):
    """A TCP stream that waits for its turn after it was sent something or has ended, until its place is free.

    It calls `on_heard` when the first bytes have come, and `on_probe` with those of a relay's probe, which goes no
    further: whoever sends one is disconnected, and gets no other answer than every stranger. So is whoever begins with
    anything else than a handshake. Its end is an error: stock returns nothing then, and libp2p's `read_exactly` asks a
    hundred times more. One task may read and one may write at a time: stock's locks cost a pass of the event loop each.
    """

    on_heard: Callable[[], None] | None = None
    on_probe: Callable[[bytes], None] = staticmethod(lambda _sent: None)

    def __init__(self, stream: trio.SocketStream, place: Place) -> None:
        super().__init__(stream)
        self.place = place
        self._held = b""

    async def read(self, n: int | None = None) -> bytes:
        """Return at most `n` bytes. Raises ConnectionClosedError at the end."""
        if n == 0:
            return b""
        if not self._held:
            received = await self._receive(n if self.place.is_free else RECEIVED_AT_ONCE)
            if n is None or len(received) <= n:
                return received
            self._held = received
        data, self._held = self._held[:n], self._held[len(self._held[:n]) :]
        return data

    async def write(self, data: bytes) -> None:
        """Send it all. Raises ConnectionClosedError; does nothing once it was closed here, as stock."""
        try:
            await self.stream.send_all(data)
            if self.place.gives_way:
                self.place.give_back()
                await take_turn(self.place)
        except trio.BrokenResourceError as error:
            raise ConnectionClosedError("the connection has ended", transport="tcp") from error
        except trio.ClosedResourceError:
            return

    async def _receive(self, n: int | None) -> bytes:
        self.place.give_back()
        try:
            data = await self.stream.receive_some(n)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        await take_turn(self.place)
        if not data:
            raise ConnectionClosedError("the connection has ended", transport="tcp")
        if self.on_heard is not None:
            self.on_heard()
            self.on_heard = None
            if PROBE_LINE.startswith(data[:1]):
                await self._read_probe(data)
            if not MULTISTREAM.startswith(data[:1]):
                raise ConnectionClosedError("this is no handshake", transport="tcp")
        return data

    async def aclose(self) -> None:
        await self.close()

    async def _read_probe(self, data: bytes) -> NoReturn:
        whole = len(PROBE_LINE) + PROBE_BYTES
        while len(data) < whole and (more := await self.stream.receive_some(whole - len(data))):
            data += more
        if len(data) == whole and data.startswith(PROBE_LINE):
            self.on_probe(data[len(PROBE_LINE) :])
        raise ProbeOver


async def take_turn(place: Place) -> None:
    """Wait for a turn, if one is needed."""
    if not place.is_free:
        turn = trio.Event()
        place.ask(turn.set)
        await turn.wait()


class _Acceptor(trio.abc.Listener[TurnStream]):
    """Accepts each socket in a turn, in which it then begins: whoever is accepted may end another one."""

    def __init__(self, listener: trio.SocketListener, turns: Turns) -> None:
        self._listener, self._turns = listener, turns

    async def accept(self) -> TurnStream:
        await trio.lowlevel.wait_readable(self._listener.socket.fileno())
        place = Place(self._turns)
        try:
            await take_turn(place)
            return TurnStream(await self._listener.accept(), place)
        except BaseException:
            place.free()
            raise

    async def aclose(self) -> None:
        await self._listener.aclose()


class _Listener(TCPListener):
    """libp2p's listener, but for how it accepts."""

    def __init__(self, handler: THandler, turns: Turns) -> None:
        super().__init__(handler)
        self._turns = turns

    async def listen(self, maddr: Multiaddr) -> None:
        """Listen at an address. Raises OpenConnectionError."""
        if self._nursery is None:
            await self._spawn_background_task()
        assert self._nursery is not None
        listeners = await _open_reuseport_listeners(
            extract_ip_from_multiaddr(maddr), int(maddr.value_for_protocol("tcp"))
        )
        in_turns = [_Acceptor(each, self._turns) for each in listeners]
        await self._nursery.start(partial(trio.serve_listeners, self._serve, in_turns))
        self.listeners.extend(listeners)

    async def _serve(self, stream: TurnStream) -> None:
        try:
            await self.handler(stream)
        except Exception as error:
            log.debug("connection.failed", error=type(error).__name__)
        finally:
            stream.place.free()


class TurnTCP(TCP):
    """libp2p's TCP, whose listeners accept in turns."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def create_listener(self, handler_function: THandler) -> TCPListener:
        """Return a listener that calls the function with each connection."""
        return _Listener(handler_function, self._turns)
