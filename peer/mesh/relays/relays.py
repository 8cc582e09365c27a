"""Which relays this device has, and which contacts it rings where. One relay's connection: control.py; who may ring
this device: ringing.py.

A device is rung at its own relays: those that its person chose or its broker names. It rings a contact at the
contact's, whose origins the contact's presence has; such a connection is given up when it was not used for a while.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog
import trio

from peer.mesh.relays import observing
from peer.mesh.relays.control import RelayControl, open_pipe
from peer.mesh.relays.observing import Connect, Seen
from peer.mesh.relays.pipe import Pipe
from peer.mesh.relays.ringing import RingGuard
from peer.mesh.relays.websocket import Route
from peer.protocol.errors import NO_FIX, DispatchError, Forbidden, Unavailable
from peer.protocol.relays import rings
from peer.protocol.relays.addresses import from_multiaddr, to_multiaddr
from peer.protocol.relays.messages import MAX_TAGS, Incoming, Probed
from peer.protocol.relays.rings import Line

log = structlog.get_logger(__name__)

Accept: TypeAlias = Callable[[Pipe], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class RelayLimits:
    """Times in seconds, the rest counts."""

    own: int = 4
    """Relays at which this device is rung."""
    of_contacts: int = 16
    """Further relays, at which contacts are rung; one more is refused while none of them is idle."""
    idle: float = 300.0
    """How long a contact's relay is kept after the last ring there."""
    joined: float = 12.0
    """How long to wait for the other end of a pipe. The relay gives it ten seconds."""
    rings_per_minute: int = 30
    """Of each contact's device. A device that finds nobody tries less often."""
    pipes_per_device: int = 6
    pipes: int = 256
    rings_remembered: int = 4096
    """Of all contacts; one more is refused until an old one is too old to come again."""
    first_retry: float = 1.0
    longest_retry: float = 60.0
    refused_retry: float = 900.0
    """After a relay that the broker named did not admit this device. A new token tries again at once. Other relays may
    be their owner's contacts' alone, and get to know this one any time: `longest_retry`."""


@dataclass
class _Kept:
    """One relay with a control connection: `rung`, trio's time of the last ring there; `scope` ends it for good."""

    control: RelayControl
    own: bool
    rung: float
    scope: trio.CancelScope
    again: trio.Event
    attempt: trio.CancelScope
    """Ends the connection, or the attempt at one, and no more."""
    refused: bool = False
    """The relay does not admit this device, which another network does not change."""
    token: int = 0
    """Which of the tokens for it is tried."""
    renewed: bool = False


class Relays:
    """This device at its relays and at its contacts'. Enter `running` before anything else but `set_…`."""

    def __init__(
        self,
        *,
        seed: bytes,
        device: str,
        sealing_key: bytes,
        route: Route,
        clock: Callable[[], int],
        limits: RelayLimits | None = None,
    ) -> None:
        """`seed`, `sealing_key`: this device's private Ed25519 and X25519 keys. `clock`: ms since the epoch."""
        self._seed, self._device, self._sealing_key = seed, device, sealing_key
        self._route, self._clock = route, clock
        self.limits = limits or RelayLimits()
        self._chosen: frozenset[str] = frozenset()
        self._origins: tuple[str, ...] = ()
        self._none = False
        self._token, self._secret = b"", b""
        self._tokens: dict[str, tuple[bytes, ...]] = {}
        self._keys: dict[str, bytes] = {}
        self._lines: dict[str, dict[bytes, Line]] = {}
        """Origin of a relay of this device → tag → who rings there."""
        self._kept: dict[str, _Kept] = {}
        self._nursery: trio.Nursery | None = None
        self._guard = RingGuard(
            per_minute=self.limits.rings_per_minute,
            remembered=self.limits.rings_remembered,
            per_device=self.limits.pipes_per_device,
            most=self.limits.pipes,
        )
        self._accept: Accept | None = None
        self._on_changed: list[Callable[[], None]] = []
        self._told: tuple[str, ...] = ()
        """The addresses of which listeners know."""

    # --- what is known from outside

    def set_relays(
        self,
        *,
        chosen: Iterable[str],
        named: Iterable[str],
        token: bytes,
        tokens: Mapping[str, tuple[bytes, ...]] | None = None,
        secret: bytes = b"",
        none: bool = False,
    ) -> None:
        """Be rung at these relays alone, the first `RelayLimits.own` of them; with `none` ring at no contact's either.

        `chosen`: origins that this machine's person wrote down; `named`: those of its brokers. `tokens`: of the brokers
        that name a relay, one after the other if it refuses one; `token`: the first broker's, for all other relays.
        `secret`: for chosen ones alone, in place of a token.
        """
        chosen = tuple(chosen)
        self._chosen, self._none = frozenset(chosen), none
        self._origins = () if none else tuple(dict.fromkeys([*chosen, *named]))[: self.limits.own]
        given = (token, secret, dict(tokens or {}))
        renewed = given != (self._token, self._secret, self._tokens)
        self._token, self._secret, self._tokens = given
        self._listen_anew()
        for origin, kept in list(self._kept.items()):
            if none or (kept.own and origin not in self._origins):
                kept.scope.cancel()
            elif renewed:
                if kept.refused:
                    kept.token = 0
                kept.control.changed()
                kept.again.set()
        if self._nursery is not None:
            for origin in self._origins:
                self._keep(origin, own=True)
        self._changed()

    def set_contacts(self, keys: Mapping[str, bytes]) -> None:
        """Take these devices for contacts': peer id → X25519 public key. Others neither ring nor are rung."""
        known = self._keys
        self._keys = {
            device: known.get(device) or rings.shared_key(self._sealing_key, key)
            for device, key in list(keys.items())[:MAX_TAGS]
        }
        self._listen_anew()

    def on_changed(self, listener: Callable[[], None]) -> None:
        """Call `listener()` when `addresses` has changed. It must not raise or block."""
        self._on_changed.append(listener)

    def renew(self, within: float) -> None:
        """This machine is on another network, or slept: relays answer within so many seconds, or are connected anew."""
        for kept in self._kept.values():
            if kept.control.up.is_set():
                kept.control.prove(within)
            elif not kept.refused:
                kept.attempt.cancel()
            kept.renewed = True
            if not kept.refused:
                kept.again.set()

    def addresses(self) -> list[str]:
        """Return the multiaddrs of the relays at which this device can be rung now."""
        return [to_multiaddr(origin) for origin in self._origins if self._is_up(origin)]

    def state(self) -> dict[str, bool]:
        """Return the origins of this device's relays, and whether it can be rung there now."""
        return {origin: self._is_up(origin) for origin in self._origins}

    # --- life

    @asynccontextmanager
    async def running(self, accept: Accept) -> AsyncIterator[None]:
        """Be rung while the block runs. `accept(pipe)` serves one pipe of a contact until it is over."""
        self._accept = accept
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for origin in self._origins:
                self._keep(origin, own=True)
            try:
                yield
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()
        self._kept.clear()

    async def dial(self, device: str, origin: str) -> Pipe:
        """Ring a contact's device at a relay; return the pipe once the device is at its other end.

        Raises Unavailable, RateLimited. Whoever closes the pipe ends it.
        """
        nursery, key = self._nursery, self._keys.get(device)
        if nursery is None or key is None or self._none:
            raise Unavailable("no relay can be used for that device", fix=NO_FIX)
        kept = self._keep(origin, own=origin in self._origins)
        kept.rung = trio.current_time()
        await kept.control.up.wait()
        line = Line(key, origin, caller=self._device, callee=device)
        ticket = await kept.control.ring(line.tag, line.seal(self._clock()))
        pipe: Pipe = await nursery.start(self._hold, kept.control, ticket, device)
        return pipe

    async def probe(self, port: int) -> Probed:
        """Have one of this device's relays dial it back at a port; return what was sent where.

        Raises Unavailable where no relay of its own is connected or answers, RateLimited.
        """
        for origin in self._origins:
            if self._is_up(origin):
                return await self._kept[origin].control.probe(port)
        raise Unavailable("no relay is connected", fix=NO_FIX)

    async def seen(self, version: int, connect: Connect) -> Seen:
        """Ask a relay that is connected where connections made by `connect` come from, as observing.ask does."""
        for kept in [kept for kept in self._kept.values() if kept.control.up.is_set()][:MOST_ASKED]:
            control = kept.control
            try:
                return await observing.ask(control.origin, version, connect, route=self._route, chosen=control.chosen)
            except Unavailable as error:
                log.debug("relay.not_seen", code=error.code)
        raise Unavailable("no relay reports this device's address", fix=NO_FIX)

    # --- inside

    def _is_up(self, origin: str) -> bool:
        return origin in self._kept and self._kept[origin].control.up.is_set()

    def _listen_anew(self) -> None:
        self._lines = {}
        for origin in self._origins:
            lines = [Line(key, origin, caller=device, callee=self._device) for device, key in self._keys.items()]
            self._lines[origin] = {line.tag: line for line in lines}
            if origin in self._kept:
                self._kept[origin].control.changed()

    def _keep(self, origin: str, *, own: bool) -> _Kept:
        """Return the relay, connecting to it from now on if it is new."""
        assert self._nursery is not None
        if (kept := self._kept.get(origin)) is not None:
            kept.own = kept.own or own
            return kept
        if not own and sum(not each.own for each in self._kept.values()) >= self.limits.of_contacts:
            raise Unavailable("too many relays of contacts are in use already", fix=NO_FIX)
        control = RelayControl(
            origin,
            seed=self._seed,
            device=self._device,
            route=self._route,
            chosen=origin in self._chosen,
            token=lambda: self._token_for(origin),
            tags=lambda: tuple(self._lines.get(origin, ())),
            incoming=self._rung,
        )
        kept = self._kept[origin] = _Kept(
            control, own, trio.current_time(), trio.CancelScope(), trio.Event(), trio.CancelScope()
        )
        self._nursery.start_soon(self._stay, kept)
        return kept

    def _token_for(self, origin: str) -> bytes:
        offered, kept = self._tokens_for(origin), self._kept.get(origin)
        return offered[0 if kept is None else kept.token % len(offered)]

    def _tokens_for(self, origin: str) -> tuple[bytes, ...]:
        """Return what may admit this device to a relay, at least one. No relay sees a token of a broker that does not
        name it, but for the first broker's."""
        if origin in self._chosen and self._secret:
            return (self._secret,)
        return self._tokens.get(origin) or (self._token,)

    async def _stay(self, kept: _Kept) -> None:
        """Stay connected to a relay, or to a contact's as long as it is used."""
        origin, delay = kept.control.origin, self.limits.first_retry
        try:
            with kept.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._until_idle, kept)
                    while True:
                        kept.again, began = trio.Event(), trio.current_time()
                        why: DispatchError | None = None
                        with trio.CancelScope() as kept.attempt:
                            why = await kept.control.run(self._changed)
                        self._changed()
                        log.info("relay.down", code=0 if why is None else why.code, own=kept.own)
                        if kept.renewed or trio.current_time() - began > self.limits.longest_retry:
                            delay, kept.renewed = self.limits.first_retry, False
                        kept.refused = isinstance(why, Forbidden)
                        if kept.refused and kept.token + 1 < len(self._tokens_for(origin)):
                            kept.token, kept.refused = kept.token + 1, False
                        pause = delay
                        if kept.refused:
                            named = kept.own and not kept.control.chosen
                            pause = self.limits.refused_retry if named else self.limits.longest_retry
                        with trio.move_on_after(pause):
                            await kept.again.wait()
                        delay = min(delay * 1.5, self.limits.longest_retry)
        finally:
            if self._kept.get(origin) is kept:
                del self._kept[origin]
            self._changed()

    async def _until_idle(self, kept: _Kept) -> None:
        """Give a contact's relay up once it is idle. One that has become this device's own stays that."""
        while not kept.own:
            left = kept.rung + self.limits.idle - trio.current_time()
            if left <= 0:
                kept.scope.cancel()
            await trio.sleep(max(left, 0.0))

    def _changed(self) -> None:
        """Tell listeners if `addresses` has changed: not after each attempt at a relay that is gone."""
        if (addresses := tuple(self.addresses())) != self._told:
            self._told = addresses
            for listener in self._on_changed:
                listener()

    async def _hold(
        self,
        control: RelayControl,
        ticket: bytes,
        device: str,
        task_status: Any = trio.TASK_STATUS_IGNORED,  # trio-stubs lack trio.TaskStatus
    ) -> None:
        """Take this end of a pipe, and run its reader until it is closed."""
        why: DispatchError | None = None
        async with trio.open_nursery() as nursery:
            try:
                connection = await open_pipe(
                    nursery,
                    control.origin,
                    ticket,
                    route=self._route,
                    chosen=control.chosen,
                    within=self.limits.joined,
                )
                pipe = Pipe(connection, device, control.origin)
                try:
                    task_status.started(pipe)
                    await pipe.over.wait()
                finally:
                    await pipe.close()
            except DispatchError as error:
                why = error
            nursery.cancel_scope.cancel()
        if why is not None:
            raise why  # before `started`: to whoever dials

    async def _rung(self, origin: str, ring: Incoming) -> None:
        """Answer a ring of a contact; ignore every other one."""
        line = self._lines.get(origin, {}).get(ring.tag)
        if line is None or self._nursery is None:
            return
        if self._guard.admit(line, ring.sealed, clock=self._clock(), now=trio.current_time()):
            self._nursery.start_soon(self._answer, self._kept[origin].control, ring.ticket, line.caller)

    async def _answer(self, control: RelayControl, ticket: bytes, device: str) -> None:
        """Take the other end of a pipe that a contact rang for, and serve it until it is over."""
        assert self._accept is not None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    pipe: Pipe = await nursery.start(self._hold, control, ticket, device)
                    try:
                        await self._accept(pipe)
                    finally:
                        await pipe.close()
                except DispatchError as error:
                    log.debug("relay.not_joined", code=error.code)
                nursery.cancel_scope.cancel()
        except Exception as error:
            log.warning("relay.pipe_failed", error=type(error).__name__)
        finally:
            self._guard.ended(device)


MOST_ASKED: Final = 2
"""Relays that are asked where this device is, one after the other."""
MOST_RELAYS: Final = 4
"""Relays of one contact's device that are tried; it could announce any number."""


def relays_among(addresses: Iterable[str]) -> list[str]:
    """Return the origins of the relays among multiaddrs, at most MOST_RELAYS."""
    found = [origin for origin in (from_multiaddr(address.partition("/p2p/")[0]) for address in addresses) if origin]
    return list(dict.fromkeys(found))[:MOST_RELAYS]
