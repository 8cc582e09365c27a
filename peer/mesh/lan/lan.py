"""This device on its local networks: where it announces itself, whose beacons it knows, dialling. One link: site.py.

Everything here is an addition: where there is no network, no multicast or a router that keeps machines apart, nothing
is seen, and contacts are reached as if this were off.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import structlog
import trio

from peer.mesh.dialing import DialBudget
from peer.mesh.lan import links
from peer.mesh.lan.limits import LanLimits
from peer.mesh.lan.links import Link
from peer.mesh.lan.masked import MaskedStream
from peer.mesh.lan.multicast import Air, Multicast
from peer.mesh.lan.packets import Seen
from peer.mesh.lan.sightings import Sightings, Way
from peer.mesh.lan.site import Site
from peer.protocol import lan, names
from peer.protocol.errors import NO_FIX, Unavailable
from peer.protocol.relays import rings

__all__ = ["Host", "Lan", "LanLimits", "Way"]

log = structlog.get_logger(__name__)

MAX_CONTACTS: Final = 1_024
"""Devices that are recognised, as many as are rung at relays."""
_JUMP: Final = 5.0
"""Seconds by which the clock and time as it passes here part when a machine was suspended."""

T = TypeVar("T")


@dataclass(frozen=True)
class Host:
    """What the mesh does with what is found.

    `meet(device)` connects to a contact's device whose beacon has come, unless there is a direct connection.
    `serve(stream, device, ip)` serves a connection of a contact's device until it is over.
    """

    meet: Callable[[str], Awaitable[None]]
    serve: Callable[[MaskedStream, str, str], Awaitable[None]]


class Lan:
    """Enter `running` before anything else but `set_…`. While `set_on(False)` it does nothing at all."""

    def __init__(
        self,
        *,
        device: str,
        sealing_key: bytes,
        limits: LanLimits | None = None,
        look: Callable[[], Iterable[Link]] = links.here,
        air: Callable[[Link], Air] = Multicast,
    ) -> None:
        """`device`, `sealing_key`: this device's id and private X25519 key. `look()`: the links that there are now."""
        self._device, self._sealing_key = device, sealing_key
        self.limits = limits or LanLimits()
        self._look, self._air = look, air
        self._on = False
        self._secrets: dict[tuple[str, bytes], bytes] = {}
        self._told: dict[str, tuple[bytes, bytes]] = {}
        """Device that is to recognise our beacons → its id in bytes, the secret with it."""
        self._known: frozenset[str] = frozenset()
        self._sightings = Sightings(device)
        self._sites: dict[Link, tuple[Site, trio.CancelScope]] = {}
        self._news = trio.Event()
        self._dials = DialBudget(self.limits.dials_per_minute)
        self._dialled: set[tuple[str, Way]] = set()
        self._met: set[str] = set()
        self._guests: Counter[str] = Counter()
        self._failed: set[str] = set()
        """What did not work, said once."""

    # --- what is known from outside

    @property
    def on(self) -> bool:
        """Whether it is turned on."""
        return self._on

    def set_on(self, on: bool) -> None:
        """Turn it on or off."""
        self._on = on
        self._news.set()

    def set_contacts(self, told: Iterable[tuple[str, bytes]], known: Mapping[str, bytes]) -> None:
        """`told`: devices, with their X25519 keys, that are to recognise this one; `known`: those to be recognised.

        Who is told no longer is refused from here on; a new beacon follows at once.
        """
        wanted = dict(list(known.items())[:MAX_CONTACTS])
        telling = sorted(told)[:MAX_CONTACTS]
        used = {*wanted.items(), *telling}
        self._secrets = {each: self._secrets.get(each) or rings.shared_key(self._sealing_key, each[1]) for each in used}
        before = self._told
        self._told = {device: (names.peer_id_bytes(device), self._secrets[device, key]) for device, key in telling}
        self._known = frozenset(wanted)
        self._sightings.set_contacts({each[0]: self._secrets[each] for each in wanted.items()})
        if self._told != before:
            gone = any(self._told.get(device) != kept for device, kept in before.items())
            for site, _ in self._sites.values():
                site.renew(shut=gone)
        self._news.set()

    def network_changed(self) -> None:
        """Look now which links there are, and ask on those that stay: this machine is on another network, or slept."""
        self._news.set()
        for site, _ in self._sites.values():
            site.ask()

    # --- life

    @asynccontextmanager
    async def running(self, host: Host) -> AsyncIterator[None]:
        """Announce, watch and let contacts in while the block runs."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_on, host, nursery)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()

    def ways(self, device: str) -> list[Way]:
        """Return where a contact's device can be dialled on a local network; if nowhere, ask for it there."""
        found = self._sightings.ways(device, trio.current_time())
        if not found:
            for site, _ in self._sites.values():
                site.ask()
        return found

    async def dial(self, device: str, way: Way, upgrade: Callable[[MaskedStream], Awaitable[T]]) -> T:
        """Connect to a contact's device, send the preface, and return what `upgrade` makes of the stream.

        Raises Unavailable, OSError, and what `upgrade` raises. One dial of a device's beacon at a time.
        """
        pair, dialled = self._sightings.pair(device, way), (device, way)
        if pair is None or way.link not in self._sites or dialled in self._dialled:
            raise Unavailable("that device cannot be dialled there now", fix=NO_FIX)
        if not self._dials.take(device, trio.current_time()):
            raise Unavailable("too many dials", fix=NO_FIX)
        self._dialled.add(dialled)
        try:
            stream = await _connect(way)
            try:
                fresh = secrets.token_bytes(lan.NONCE_BYTES)
                await stream.send_all(pair.preface(fresh))
                to_them, to_us = pair.masks(fresh)
                return await upgrade(MaskedStream(stream, writes=to_them, reads=to_us))
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
        finally:
            self._dialled.discard(dialled)

    # --- inside

    async def _keep_on(self, host: Host, nursery: trio.Nursery) -> None:
        # A node does without a local network, so nothing here may end it.
        while True:
            try:
                await self._keep(host, nursery)
            except Exception as error:
                self._note("lan.not_watched", error)
            await trio.sleep(self.limits.look)

    async def _keep(self, host: Host, nursery: trio.Nursery) -> None:
        """Have a site on each link, and look again and again which there are."""
        drift = time.time() - trio.current_time()
        while True:
            self._news = trio.Event()
            wanted: frozenset[Link] = frozenset()
            if self._on and self._known:
                wanted = frozenset(await trio.to_thread.run_sync(lambda: tuple(self._look())))
            for link in self._sites.keys() - wanted:
                self._sites.pop(link)[1].cancel()
                self._sightings.leave(link)
            for link in wanted - self._sites.keys():
                self._open(link, host, nursery)
            with trio.move_on_after(self.limits.look if self._on and self._known else float("inf")):
                await self._news.wait()
            before, drift = drift, time.time() - trio.current_time()
            if abs(drift - before) > _JUMP:
                for site, _ in self._sites.values():
                    site.renew(shut=False)
                    site.ask()

    def _open(self, link: Link, host: Host, nursery: trio.Nursery) -> None:
        try:
            air = self._air(link)
        except OSError as error:
            self._note("lan.no_multicast", error)
            return
        site = Site(
            link,
            air,
            own=names.peer_id_bytes(self._device),
            contacts=lambda: self._told,
            expects=self._sightings.at,
            seen=partial(self._seen, host, nursery),
            accept=partial(self._accept, host),
            guests=nursery,
            limits=self.limits,
        )
        scope = trio.CancelScope()
        self._sites[link] = (site, scope)
        nursery.start_soon(self._stay, link, site, scope)

    async def _stay(self, link: Link, site: Site, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await site.run()
        except* OSError as errors:
            self._note("lan.link_unusable", errors.exceptions[0])  # looked at again soon
        except* Exception as errors:
            log.error("lan.defect", error=type(errors.exceptions[0]).__name__)
        finally:
            if self._sites.get(link, (None, None))[0] is site:
                del self._sites[link]

    def _note(self, what: str, error: BaseException) -> None:
        if what not in self._failed:
            self._failed.add(what)
            log.info(what, why=getattr(error, "strerror", None) or type(error).__name__)

    def _seen(self, host: Host, nursery: trio.Nursery, link: Link, ip: str, beacon: Seen) -> None:
        device = self._sightings.see(link, ip, beacon, trio.current_time())
        if device is not None and device not in self._met:
            self._met.add(device)
            nursery.start_soon(self._meet, host, device)

    async def _meet(self, host: Host, device: str) -> None:
        try:
            if self._device > device:
                await trio.sleep(self.limits.after_them)
            await host.meet(device)
        except Exception as error:
            log.warning("lan.not_met", error=type(error).__name__)
        finally:
            self._met.discard(device)

    async def _accept(self, host: Host, stream: MaskedStream, device: str, ip: str) -> None:
        if self._guests[device] >= self.limits.connections_per_device:
            return
        self._guests[device] += 1
        try:
            await host.serve(stream, device, ip)
        finally:
            self._guests[device] -= 1
            if not self._guests[device]:
                del self._guests[device]


async def _connect(way: Way) -> trio.SocketStream:
    """Connect from the address on that link, so that no other network is in between."""
    opening = trio.socket.socket(way.link.family)
    try:
        await opening.bind(way.link.to(way.link.address, 0))
        await opening.connect(way.link.to(way.ip, way.port))
        return trio.SocketStream(opening)
    except BaseException:
        opening.close()
        raise
