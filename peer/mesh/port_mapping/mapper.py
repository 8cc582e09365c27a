"""When a port is mapped, and what is announced of it: an address at which a relay has reached this device, no other."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

import structlog
import trio

from peer.mesh.port_mapping import mappings
from peer.mesh.port_mapping.datagrams import NONCE_BYTES
from peer.mesh.port_mapping.mappings import Mapping, Surrounding
from peer.protocol.errors import NO_FIX, DispatchError, Unavailable
from sandbox.network.addresses import is_public

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class MapperLimits:
    """Times in seconds."""

    probe_every: float = 1800.0
    """How long a relay's word counts."""
    retry: float = 600.0
    """After a router did not map a port, or a relay did not reach it."""
    whole: float = 30.0
    """For all questions to a router, whatever it answers."""
    look_every: float = 30.0
    """How often to look whether the network is another one: nothing says so, nor that a machine was suspended."""
    farewell: float = 1.0
    """For ending a mapping when the node stops. Else it ends with its lease."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A relay has reached this device's port `internal` at this public address."""

    address: IPv4Address
    external: int
    internal: int

    @property
    def multiaddr(self) -> str:
        """What contacts dial."""
        return f"/ip4/{self.address}/tcp/{self.external}"


class PortMapper:
    """Keeps a port mapped and checked while `run` runs.

    `port()`: which one is to be mapped, 0 for none. `probe(port)`: the address at which a relay reached this device, ""
    if it did not; raises DispatchError if no relay answers. `can_ask()`: whether a relay is connected. `changed()` is
    called when `verified` has changed. `clock`: ms since the epoch.
    """

    def __init__(
        self,
        *,
        enabled: Callable[[], bool],
        port: Callable[[], int],
        probe: Callable[[int], Awaitable[str]],
        can_ask: Callable[[], bool],
        changed: Callable[[], None],
        clock: Callable[[], int],
        look_around: Callable[[], Surrounding | None] = mappings.look_around,
        limits: MapperLimits | None = None,
    ) -> None:
        self._enabled, self._port, self._probe = enabled, port, probe
        self._can_ask, self._changed, self._clock = can_ask, changed, clock
        self._look_around = look_around
        self._limits = limits or MapperLimits()
        self._nonce = os.urandom(NONCE_BYTES)
        self._mapping: Mapping | None = None
        self._renew_at = 0.0
        self._woken = trio.Event()
        self._waits_for_relay = False
        self.verified: Verified | None = None
        """What may be announced now."""

    # --- from outside

    def network_changed(self) -> None:
        """Map and check anew: this machine may be elsewhere. Until that is done nothing is announced."""
        self._set(None)
        self._renew_at = 0.0
        self._woken.set()

    def relays_changed(self) -> None:
        """Go on if no relay was there to ask."""
        if self._waits_for_relay and self._can_ask():
            self._woken.set()

    def reload(self) -> None:
        """Look at the settings again."""
        if self._enabled() != (self._mapping is not None):
            self._woken.set()

    # --- life

    async def run(self) -> None:
        """Map, check, renew until cancelled; then end the mapping, within `MapperLimits.farewell`."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                while True:
                    self._woken = trio.Event()
                    pause = await self._refresh()
                    with trio.move_on_after(pause):
                        await self._woken.wait()
        finally:
            self._set(None)
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._limits.farewell):
                await self._end_mapping()

    async def _watch(self) -> None:
        """Notice that the network changed, or that time passed unseen."""
        around, then = self._look_around(), self._clock()
        while True:
            await trio.sleep(self._limits.look_every)
            now_around, now = self._look_around(), self._clock()
            slept = not 0 <= now - then < 2000 * self._limits.look_every
            if now_around != around or slept:
                self.network_changed()
            around, then = now_around, now

    async def _refresh(self) -> float:
        """Do what is due; return for how many seconds nothing is."""
        self._waits_for_relay = False
        enabled = self._enabled()
        port = self._port() if enabled else 0
        if port and not self._can_ask():
            self._waits_for_relay = True
            if self.verified is None:
                return float("inf")
        if not port:
            self._set(None)
            await self._end_mapping()
            # An interface may lose its public address; the setting is looked at when it is written.
            return self._limits.retry if enabled else float("inf")
        try:
            mapping = await self._mapped(port)
            woken, verified = self._woken, await self._verify(mapping)
        except DispatchError as error:
            log.info("port_mapping.none", code=error.code)
            self._renew_at = 0.0  # the router may have been started anew, and have forgotten it
            pause = self._limits.retry if self.verified is None else 0.0
            self._set(None)
            return pause
        if not woken.is_set():  # else the network changed meanwhile
            self._set(verified)
        return min(self._limits.probe_every, max(0.0, self._renew_at - trio.current_time()))

    async def _mapped(self, port: int) -> Mapping:
        """Return the mapping, made or renewed where that is due. Raises Unavailable, Invalid."""
        known = self._mapping
        if known is not None and known.internal == port and trio.current_time() < self._renew_at:
            return known
        around = self._look_around()
        if around is None:
            raise Unavailable("no router was found", fix=NO_FIX)
        self._mapping = None
        with trio.move_on_after(self._limits.whole):
            self._mapping = await mappings.add(around, port, nonce=self._nonce, known=known)
        if self._mapping is None:
            raise Unavailable("the router is too slow", fix=NO_FIX)
        self._renew_at = trio.current_time() + self._mapping.seconds / 2
        return self._mapping

    async def _verify(self, mapping: Mapping) -> Verified:
        """Have a relay dial the mapped port. Raises Unavailable."""
        address = await self._probe(mapping.external)
        try:
            reached = IPv4Address(address)
        except ValueError:
            reached = None
        # A relay could name any address, and contacts would dial it.
        if reached is None or not is_public(reached):
            raise Unavailable("the mapped port cannot be reached from outside", fix=NO_FIX)
        return Verified(reached, mapping.external, mapping.internal)

    async def _end_mapping(self) -> None:
        mapping, self._mapping = self._mapping, None
        if mapping is not None:
            try:
                await mappings.remove(mapping, nonce=self._nonce)
            except DispatchError as error:
                log.info("port_mapping.not_ended", code=error.code)

    def _set(self, verified: Verified | None) -> None:
        if verified != self.verified:
            self.verified = verified
            log.info("port_mapping.verified" if verified else "port_mapping.withdrawn")
            self._changed()
