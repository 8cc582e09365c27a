"""Finding a way to a peer: its addresses, the local network, relays, raced; and leaving a relay for a better one.

What is dialled at all: dialable.py. Staggering and the budget: dialing.py. When to look for a better way: paths.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio
from libp2p.abc import INetConn
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from peer.mesh.dialable import surroundings
from peer.mesh.dialing import MAX_ADDRESSES, DialBudget, race, usable
from peer.mesh.guards.swarm import GuardedSwarm, is_direct, ours
from peer.mesh.lan import Lan, Way
from peer.mesh.relays import Relays
from peer.mesh.relays.relays import relays_among
from peer.protocol.errors import NO_FIX, Unavailable


class Ways:
    """Dials peers. `listen`, `party`, `typed`, `relays`, `lan`: as MeshHost's.

    `dial`: seconds for all addresses of a peer; `dials_per_minute`: addresses of one party.
    """

    def __init__(
        self,
        swarm: GuardedSwarm,
        *,
        listen: Sequence[Multiaddr],
        party: Callable[[str], str],
        typed: Callable[[str], Sequence[str]],
        relays: Relays | None,
        lan: Lan | None,
        dial: float,
        dials_per_minute: int,
    ) -> None:
        self._swarm = swarm
        self._listen = listen
        self._party, self._typed = party, typed
        self._relays, self._lan = relays, lan
        self._dial = dial
        self._budget = DialBudget(dials_per_minute)
        self._renewed = trio.Event()
        self._spares: set[INetConn] = set()

    async def connect(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Connect to a peer at the first of `addresses` that answers, unless it is connected.

        Raises Unavailable if none answers within `MeshLimits.dial` seconds, or none may be dialled (dialable.py).
        """
        if self._swarm.live(peer_id):
            return
        near = self._near(peer_id)
        candidates = self._usable(addresses, peer_id)
        relays = relays_among(addresses) if self._relays is not None else []
        if addresses and not candidates and not relays and not near:
            raise Unavailable(
                f"device {peer_id[-8:]} has no address that can be dialled from here",
                fix="it must be on this network, or connect to this device; two on one machine find each other if "
                "`lan` is on for both",
            )
        await self._race(peer_id, [*near, *candidates, *relays])
        if not self._swarm.live(peer_id):
            raise Unavailable(
                f"device {peer_id[-8:]} answers at none of its {max(len(addresses), len(candidates))} addresses",
                fix="what waits for it is delivered as soon as its daemon is up",
            )

    async def connect_directly(self, peer_id: str, addresses: Sequence[str]) -> None:
        """Look for a direct path to a peer that is connected through a relay. Raises Unavailable if there is none."""
        await self._race(peer_id, [*self._near(peer_id), *self._usable(addresses, peer_id)])
        if not self._swarm.is_direct(peer_id):
            raise Unavailable(f"there is no direct path to device {peer_id[-8:]}", fix=NO_FIX)

    async def meet(self, peer_id: str) -> None:
        """Connect to a peer that was seen on the local network, unless there is a direct path."""
        if not self._swarm.is_direct(peer_id):
            await self._race(peer_id, [*self._near(peer_id)])

    def leave_relay(self, peer_id: str) -> None:
        """Abort the connections to a peer that go through a relay, if there is a direct one."""
        if self._swarm.is_direct(peer_id):
            for connection in self._swarm.get_connections(ID.from_base58(peer_id)):
                if not is_direct(connection):
                    ours(connection.muxed_conn).abort()

    def close_spares(self) -> bool:
        """End connections to peers that have better or newer ones, if nothing used them now nor at the last call.

        Return whether there are any that a later call may end.

        Both ends dial after a wake, and so two or three may come about. Only one of the two ends them, by their ids:
        each of the two could mean another one.
        """
        found, left = set[INetConn](), False
        for peer_id in {connection.muxed_conn.peer_id for connection in self._swarm.get_connections()}:
            if self._swarm.get_peer_id().to_bytes() < peer_id.to_bytes():
                spares = self._swarm.live(peer_id.to_base58())[:-1]
                left = left or bool(spares)
                found.update(each for each in spares if not ours(each.muxed_conn).streams)
        for connection in found & self._spares:
            ours(connection.muxed_conn).abort()
        self._spares = found - self._spares
        return left

    def give_up(self) -> None:
        """End the dials under way: they belong to a network that is gone."""
        self._renewed.set()
        self._renewed = trio.Event()

    def _usable(self, addresses: Sequence[str], peer_id: str) -> list[Multiaddr]:
        typed = usable(self._typed(peer_id), peer_id, lambda _ip: True)
        others = usable(addresses, peer_id, surroundings(self._listen).may_dial)
        return list({str(address): address for address in (*typed, *others)}.values())[:MAX_ADDRESSES]

    def _near(self, peer_id: str) -> list[Way]:
        return [] if self._lan is None else self._lan.ways(peer_id)

    async def _race(self, peer_id: str, candidates: Sequence[Multiaddr | str | Way]) -> None:
        """Dial addresses and relays of a peer, and where it was seen on the local network, until one answers."""
        wanted, party = ID.from_base58(peer_id), self._party(peer_id)

        # dial_addr, not connect: no fixed delay, no record of past failures; Noise proves the peer id either way.
        async def dial(way: Multiaddr | str | Way) -> INetConn:
            if not self._budget.take(party, trio.current_time()):
                raise Unavailable("too many dials", fix=NO_FIX)
            if isinstance(way, Way):
                assert self._lan is not None
                return await self._lan.dial(peer_id, way, lambda stream: self._swarm.upgrade_expected(stream, peer_id))
            if isinstance(way, str):
                return await self._dial_through(way, peer_id)
            return await self._swarm.dial_addr(way, wanted)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_renewed, nursery.cancel_scope)
            with trio.move_on_after(self._dial):
                for spare in (await race(dial, [*candidates]))[1:]:
                    ours(spare.muxed_conn).abort()
            nursery.cancel_scope.cancel()

    async def _until_renewed(self, scope: trio.CancelScope) -> None:
        await self._renewed.wait()
        scope.cancel()

    async def _dial_through(self, relay: str, peer_id: str) -> INetConn:
        assert self._relays is not None
        pipe = await self._relays.dial(peer_id, relay)
        try:
            return await self._swarm.upgrade_expected(pipe, peer_id, relayed=True)
        except BaseException:
            with trio.CancelScope(shield=True):
                await pipe.close()
            raise
