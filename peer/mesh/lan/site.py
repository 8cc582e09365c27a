"""One link: the beacon that this device has there, and the port behind it. Whose beacons come in: sightings.py.

A beacon has a nonce, names and a port of its own, and the next one has others. Who connects to the port gets nothing
until its preface has come, whole and in time, and is a contact's.
"""

from __future__ import annotations

import random
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog
import trio

from peer.mesh.guards.handshakes import Handshakes
from peer.mesh.lan import packets
from peer.mesh.lan.limits import LanLimits
from peer.mesh.lan.links import Link
from peer.mesh.lan.masked import MaskedStream
from peer.mesh.lan.multicast import Air
from peer.mesh.lan.packets import Asked, Seen
from peer.protocol import lan
from peer.protocol.errors import Forbidden

log = structlog.get_logger(__name__)

QUESTIONS: Final = (0.0, 1.0, 3.0)
"""Seconds after the start of a link at which beacons are asked for: multicast gets lost."""
ANNOUNCED: Final = (0.0, 1.0)
"""Seconds after a beacon is new at which it is sent unasked (RFC 6762, 8.3)."""
ANSWER_AFTER: Final = (0.02, 0.12)
"""Seconds: other machines answer the same question (RFC 6762, 6)."""
ANSWER_EVERY: Final = 1.0
READ_AT_ONCE: Final = 40
"""Packets that name our service, read in one second."""
_BACKLOG: Final = 32


@dataclass(eq=False)
class Epoch:
    """One beacon's life. `pairs`: hint → device and its pair; who is no contact any more is taken out at once."""

    name: str
    port: int
    packet: bytes
    pairs: dict[bytes, tuple[str, lan.Pair]]
    used: dict[str, set[bytes]] = field(default_factory=dict)
    """Device → the nonces of its prefaces so far."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Ends its listener."""


class Site:
    """`run` is the life of this machine's address on one link."""

    def __init__(
        self,
        link: Link,
        air: Air,
        *,
        own: bytes,
        contacts: Callable[[], Mapping[str, tuple[bytes, bytes]]],
        expects: Callable[[str], bool],
        seen: Callable[[Link, str, Seen], None],
        accept: Callable[[MaskedStream, str, str], Awaitable[None]],
        guests: trio.Nursery,
        limits: LanLimits,
    ) -> None:
        """`own`: this device, 38 bytes. `contacts()`: device → its 38 bytes and the secret with it.

        `expects(ip)`: whether a contact was seen there. `seen(link, ip, beacon)` is called for each beacon.
        `accept(stream, device, ip)` serves one connection whose preface is right until it is over, in a task of
        `guests`, which outlives the link.
        """
        self.link, self._air, self._own = link, air, own
        self._contacts, self._seen, self._accept = contacts, seen, accept
        self._guests, self._limits = guests, limits
        self._epochs: list[Epoch] = []
        """The newest last."""
        self._name = ""
        """That of the newest beacon."""
        self._renew, self._asked, self._ask = trio.Event(), trio.Event(), trio.Event()
        self._shut = False
        self._second, self._read = 0, 0
        self.waiting = Handshakes(limits.waiting, expects)

    # --- what is said from outside

    def renew(self, *, shut: bool) -> None:
        """Make a new beacon soon. `shut`: close the ports of the old ones at once."""
        contacts = self._contacts()
        for epoch in self._epochs:
            epoch.pairs = {hint: found for hint, found in epoch.pairs.items() if found[0] in contacts}
        if shut:
            for epoch in self._epochs:
                epoch.scope.cancel()
        self._shut = self._shut or shut
        self._renew.set()

    def ask(self) -> None:
        """Ask for the beacons of others once more."""
        self._ask.set()

    # --- life

    async def run(self) -> None:
        """Announce, listen and watch until cancelled. Raises OSError if this address cannot be used."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear)
                nursery.start_soon(self._answer)
                nursery.start_soon(self._question)
                while True:
                    # Replaced before the contacts are read, so that no change is missed.
                    self._renew, self._shut = trio.Event(), False
                    epoch = await self._begin(nursery)
                    await trio.sleep(self._limits.between_beacons)
                    spread = self._limits.beacon * self._limits.beacon_spread
                    with trio.move_on_after(self._limits.beacon + random.uniform(-spread, spread)):  # noqa: S311
                        await self._renew.wait()
                    nursery.start_soon(self._retire, epoch, self._shut)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._limits.farewell):
                if self._name:
                    await self._send(packets.farewell(self._name))
            self._air.close()

    async def _begin(self, nursery: trio.Nursery) -> Epoch:
        """Make a new beacon, open its port and announce it."""
        listening = trio.socket.socket(self.link.family, socket.SOCK_STREAM)
        try:
            await listening.bind(self.link.to(self.link.address, 0))
            listening.listen(_BACKLOG)
        except BaseException:
            listening.close()
            raise
        port = int(listening.getsockname()[1])
        nonce, where = secrets.token_bytes(lan.NONCE_BYTES), lan.place(self.link.address, port)
        pairs = {
            device: lan.Pair(key, self._own, reader, nonce, where) for device, (reader, key) in self._contacts().items()
        }
        name, marks = packets.new_name(), lan.padded([pair.mark for pair in pairs.values()])
        epoch = Epoch(
            name,
            port,
            packets.beacon(name, port, nonce, marks),
            {pair.hint: (device, pair) for device, pair in pairs.items()},
        )
        self._epochs.append(epoch)
        for old in self._epochs[: -self._limits.ports]:
            old.scope.cancel()
        self._name = name
        nursery.start_soon(self._listen, epoch, trio.SocketListener(listening))
        nursery.start_soon(self._announce, epoch)
        return epoch

    async def _retire(self, epoch: Epoch, shut: bool) -> None:
        """Take a beacon back, and leave its port open for those who are on their way."""
        await self._send(packets.farewell(epoch.name))
        if not shut:
            await trio.sleep(self._limits.old_port)
        epoch.scope.cancel()

    async def _listen(self, epoch: Epoch, listener: trio.SocketListener) -> None:
        try:
            with epoch.scope:
                await trio.serve_listeners(partial(self._receive, epoch), [listener], handler_nursery=self._guests)
        finally:
            self._epochs.remove(epoch)

    # --- packets

    async def _announce(self, epoch: Epoch) -> None:
        for wait in ANNOUNCED:
            await trio.sleep(wait)
            if self._epochs and self._epochs[-1] is epoch:
                await self._send(epoch.packet)

    async def _question(self) -> None:
        for wait in QUESTIONS:
            await trio.sleep(wait)
            await self._send(packets.question())
        while True:
            await self._ask.wait()
            await self._send(packets.question())
            await trio.sleep(self._limits.between_questions)
            self._ask = trio.Event()

    async def _answer(self) -> None:
        while True:
            await self._asked.wait()
            await trio.sleep(random.uniform(*ANSWER_AFTER))  # noqa: S311
            if self._epochs and not self._epochs[-1].scope.cancel_called:
                await self._send(self._epochs[-1].packet)
            await trio.sleep(ANSWER_EVERY)
            self._asked = trio.Event()

    async def _hear(self) -> None:
        while True:
            packet, ip = await self._air.receive()
            if any(packet == epoch.packet for epoch in self._epochs):
                continue  # our own: on loopback a socket hears itself
            if packets.concerns_us(packet) and self._may_read():
                match packets.read(packet):
                    case Asked():
                        self._asked.set()
                    case Seen() as beacon:
                        self._seen(self.link, ip, beacon)

    def _may_read(self) -> bool:
        second = int(trio.current_time())
        if second != self._second:
            self._second, self._read = second, 0
        self._read += 1
        return self._read <= READ_AT_ONCE

    async def _send(self, packet: bytes) -> None:
        try:
            await self._air.send(packet)
        except OSError as error:
            log.debug("lan.not_sent", error=error.strerror)

    # --- connections

    async def _receive(self, epoch: Epoch, stream: trio.SocketStream) -> None:
        """Serve one connection: until its preface is proven, without a byte from here."""
        try:
            address: tuple[Any, ...] = stream.socket.getpeername()
            ip = str(address[0]).partition("%")[0]
            if (proven := await self._proven(epoch, stream, ip)) is not None:
                device, masked = proven
                await self._accept(masked, device, ip)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it left
        except Exception as error:
            log.warning("lan.connection_failed", error=type(error).__name__)
        finally:
            await trio.aclose_forcefully(stream)

    async def _proven(self, epoch: Epoch, stream: trio.SocketStream, ip: str) -> tuple[str, MaskedStream] | None:
        if not self.link.holds(ip):
            return None
        preface = b""
        with trio.CancelScope(deadline=trio.current_time() + self._limits.preface) as scope:
            waiting = self.waiting.enter(ip, scope.cancel)
            try:
                while len(preface) < lan.PREFACE_BYTES:
                    more = await stream.receive_some(lan.PREFACE_BYTES - len(preface))
                    if not more:
                        break
                    preface, waiting.heard = preface + more, True
            finally:
                self.waiting.leave(waiting)
        return self._known(epoch, stream, preface)

    def _known(self, epoch: Epoch, stream: trio.SocketStream, preface: bytes) -> tuple[str, MaskedStream] | None:
        # Looked up by a MAC that strangers cannot guess: what they send costs one look-up, whatever it is.
        device, pair = epoch.pairs.get(preface[: lan.HINT_BYTES], ("", None))
        if pair is None:
            return None
        try:
            fresh = pair.check(preface)
        except Forbidden:
            return None
        used = epoch.used.setdefault(device, set())
        if fresh in used or len(used) >= self._limits.prefaces:
            return None
        used.add(fresh)
        to_us, to_them = pair.masks(fresh)
        return device, MaskedStream(stream, writes=to_them, reads=to_us)
