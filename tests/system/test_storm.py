"""A recipient that reports as much as is taken, in the smallest events: what that costs a sender's daemon."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest
import trio

from peer.client.on_trio import AsyncClient
from peer.dispatches.reports import MAX_TRACE_BYTES, stored_bytes
from peer.protocol import names
from peer.protocol.signing import Signed, sign_by_device
from peer.protocol.statements import MAX_EVENTS, Events
from tests.conftest import HANG
from tests.system.test_refusals import Peer, speaking_as
from tests.system.world import Person, World, connect, eventually

MIB = 1 << 20
BOUND = 24 * MIB
"""The daemon holds a few batches, a page of events for each view, and SQLite's cache."""
EVENTS = ('{"kind":"x"}',) * MAX_EVENTS


def memory(person: Person, field: str) -> int:
    """Return VmRSS (now) or VmHWM (the most since `reset_peak`) of a daemon, in bytes."""
    assert person.program is not None
    lines = Path(f"/proc/{person.program.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def reset_peak(person: Person) -> None:
    assert person.program is not None
    Path(f"/proc/{person.program.pid}/clear_refs").write_text("5")  # proc(5)


def running(sender: Person, recipient: Person) -> str:
    """A dispatch that runs and waits for an answer, of which the sender has been told everything."""
    connect(sender, recipient)
    recipient.will({"tool": "Write", "input": {"file_path": "/dispatch/out/a", "content": "b"}})
    dispatch_id = str(sender.client.send(recipient.email, "Report without end")["dispatch_id"])
    sender.state_of(dispatch_id, "pending")
    recipient.client.accept(dispatch_id)
    recipient.approval_of(dispatch_id)
    sender.state_of(dispatch_id, "running")
    eventually(lambda: recipient.untold(sender) == 0, what="everything said")
    return dispatch_id


def report(peer: Peer, dispatch_id: str, sequence: int, previous: bytes) -> Signed:
    """The largest batch of the smallest events."""
    now = time.time_ns() // 1_000_000
    batch = Events(
        issuer_user=peer.who.user_id,
        issuer_device=peer.who.device,
        audience_user=peer.to["user_id"],
        audience_device=peer.to["device_id"],
        id=names.uuid7(now, os.urandom(10)),
        created=now,
        dispatch_id=dispatch_id,
        attempt=1,
        sequence=sequence,
        previous=previous,
        events=EVENTS,
    )
    return sign_by_device(batch, peer.who.seed)


@pytest.mark.long
@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.long)], ids=["an eighth", "full"])
async def test_a_storm_of_tiny_events_costs_the_sender_a_bounded_amount_of_memory(world: World, full: bool) -> None:
    """While somebody looks on from its first event, somebody else from its last, and when all of it is removed again;
    after which no more of it is taken. Seen to fail with a view that reads a whole trace at once (by 12 MiB)."""
    sally, rob = await trio.to_thread.run_sync(lambda: world.people_named("sally", "rob"))
    dispatch_id = await trio.to_thread.run_sync(running, sally, rob)
    rob.crash()
    seen = [0, 0]

    async def look_on(who: int) -> None:
        async for event in AsyncClient(sally.state).events(dispatch_id):
            seen[who] += event.kind == "trace"

    async with speaking_as(rob, sally) as peer:
        before = memory(sally, "VmRSS")
        reset_peak(sally)
        with trio.fail_after(HANG):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(look_on, 0)
                [(first, head)] = sally.rows(
                    "SELECT count(*), (SELECT digest FROM event_batches ORDER BY sequence DESC LIMIT 1) "
                    "FROM event_batches"
                )
                code, taken, stored, head = 200, 0, 0, head or bytes(32)
                while code == 200 and (full or stored < MAX_TRACE_BYTES / 8):
                    signed = report(peer, dispatch_id, first + taken, head)
                    code = (await peer.say(signed.raw)).code
                    if code == 200:
                        taken, head = taken + 1, signed.digest
                        stored += stored_bytes(len(signed.raw), EVENTS)
                assert code == (413 if full else 200)
                assert not full or stored > 0.98 * MAX_TRACE_BYTES, "the storm was as large as may be"
                nursery.start_soon(look_on, 1)
                await trio.to_thread.run_sync(sally.client.cancel, dispatch_id)  # which ends both views
        assert min(seen) >= taken * MAX_EVENTS
        whole = await trio.to_thread.run_sync(sally.client.dispatch, dispatch_id)
        assert len(whole["events"]) == 10_000

        await trio.to_thread.run_sync(lambda: sally.cli("config", "set", "retention_mb", "1"))
        removed = partial(sally.client.dispatch, dispatch_id)
        await trio.to_thread.run_sync(lambda: eventually(lambda: removed()["removed"], what="it thinned"))
        for sequence, previous in ((first + taken, head), (0, bytes(32))):
            assert (await peer.say(report(peer, dispatch_id, sequence, previous).raw)).code == 409
        assert sally.rows("SELECT count(*) FROM event_batches") == sally.rows("SELECT count(*) FROM trace") == [(0,)]
    grown, peak = memory(sally, "VmRSS") - before, memory(sally, "VmHWM") - before
    assert max(grown, peak) < BOUND, f"{grown / MIB:.0f} MiB, and {peak / MIB:.0f} at most"
