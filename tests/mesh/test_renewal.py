"""Another network, or the end of a sleep: connections have to prove themselves, dials under way are given up."""

from __future__ import annotations

import signal

import pytest
import trio

from peer.mesh.guards.swarm import SwarmLimits
from peer.mesh.guards.yamux_limits import YamuxLimits
from peer.mesh.host import MeshLimits
from peer.protocol.errors import Unavailable
from tests.conftest import HANG
from tests.mesh.harness import MemoryOutbox, count_tasks, make_host, until
from tests.mesh.test_processes import courier_of, peer_process
from tests.mesh.wire import Wire

PATIENT = MeshLimits(
    dial=HANG * 10,
    open_stream=HANG * 10,
    proof=0.5,
    swarm=SwarmLimits(handshake=HANG * 10),
    yamux=YamuxLimits(ping_every=HANG * 10, dead_after=HANG * 10, write_stall=HANG * 10),
)
"""So that nothing ends by itself."""


async def test_half_dead_connections_end_and_live_ones_stay() -> None:
    """Seen to fail without the proof: the dead one lived until the keepalive's end."""
    ana, ben, cleo = (make_host(limits=PATIENT) for _ in range(3))
    async with ana.running(), ben.running(), cleo.running():
        wire = Wire(int(ben.addresses()[0].split("/")[4]))
        async with wire.running():
            await ana.connect(ben.peer_id, [wire.address])
            await ana.connect(cleo.peer_id, cleo.addresses())
            wire.cut()
            ana.renew(0.5)
            await until(lambda: not ana.connected(ben.peer_id))
            assert ana.connected(cleo.peer_id)


async def test_a_dial_under_way_is_given_up() -> None:
    """It went out by an interface that is gone, and would wait for its deadline. Seen to fail without."""
    ana, ben = make_host(limits=PATIENT), make_host()
    async with ana.running(), ben.running():
        wire = Wire(int(ben.addresses()[0].split("/")[4]))
        wire.cut()
        async with wire.running(), trio.open_nursery() as nursery:
            tasks = count_tasks()

            async def dial() -> None:
                with pytest.raises(Unavailable):
                    await ana.connect(ben.peer_id, [wire.address])

            nursery.start_soon(dial)
            await until(lambda: wire.taken == 1)
            ana.renew(0.5)
            await until(lambda: count_tasks() <= tasks + 1)  # what the wire still has
            await ana.connect(ben.peer_id, ben.addresses())


async def test_a_peer_that_connects_anew_puts_its_older_connections_in_doubt() -> None:
    """It changed its network, and this machine did not. Seen to fail without: both lived on."""
    ana, ben = make_host(limits=PATIENT), make_host(limits=PATIENT)
    async with ana.running(), ben.running():
        wire = Wire(int(ben.addresses()[0].split("/")[4]))
        async with wire.running():
            await ana.connect(ben.peer_id, [wire.address])
            await until(lambda: ben.connected(ana.peer_id))
            wire.cut()
            for connection in ana._swarm.get_connections():
                connection.muxed_conn.abort()  # type: ignore[attr-defined]
            await until(lambda: not ana.connected(ben.peer_id))
            await ana.connect(ben.peer_id, ben.addresses())
            await until(lambda: len(ben._swarm.get_connections()) == 2)
            await until(lambda: len(ben._swarm.get_connections()) == 1)
            assert ben.connected(ana.peer_id)


async def test_a_stream_that_is_not_taken_up_puts_its_connection_in_doubt() -> None:
    limits = MeshLimits(open_stream=0.2, proof=0.2, yamux=PATIENT.yamux)
    ana, ben = make_host(limits=limits), make_host(limits=PATIENT)
    async with ana.running(), ben.running():
        wire = Wire(int(ben.addresses()[0].split("/")[4]))
        async with wire.running():
            await ana.connect(ben.peer_id, [wire.address])
            wire.cut()
            with pytest.raises(Unavailable):
                await ana.open_stream(ben.peer_id, "/test/echo/1")
            await until(lambda: not ana.connected(ben.peer_id))


async def test_a_peer_that_was_stopped_meanwhile_is_served_by_the_same_courier() -> None:
    """SIGSTOP stands for its sleep, a renewal here for ours: what waits is brought once it goes on."""
    host, outbox = make_host(limits=PATIENT), MemoryOutbox()
    async with host.running(), peer_process() as (process, peer_id, address):
        courier = courier_of(host, outbox, address)
        async with courier.running():
            outbox.put(peer_id, "before", b"before")
            courier.wake(peer_id)
            await outbox.settled("before")
            process.send_signal(signal.SIGSTOP)
            outbox.put(peer_id, "asleep", b"x")
            courier.wake(peer_id)
            host.renew(0.3)
            await until(lambda: not host.connected(peer_id))
            process.send_signal(signal.SIGCONT)
            courier.renew([peer_id])
            await outbox.settled("asleep")
