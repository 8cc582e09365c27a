"""What time does to a dispatch, by a clock that only the test moves: expiry at either side, early and late."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peer.protocol.errors import Conflict, Forbidden, Gone
from peer.protocol.signing import open_as
from peer.protocol.statements import Dispatch
from peer.steps import granting, inbound, receiving, running, sending
from peer.steps.transaction import Transaction
from peer.store import dispatches, outbox, rows, trace
from tests.system.two_ends import End, Fault, Story

LIFETIME_MS = 600_000


@pytest.fixture
async def story(tmp_path: Path) -> AsyncIterator[Story]:
    """Alice and Bob, an edge in force, one dispatch signed and queued."""
    story = Story(tmp_path, Fault(), "none")
    story.content = b""  # no file: delivered is pending
    while await story.alice.row() is None:
        await story.move()
    try:
        yield story
    finally:
        story.close()


async def expire(end: End) -> list[str]:
    """What a node's clock does; the states of what was overdue, after it."""

    def work(tx: Transaction) -> None:
        for row in dispatches.overdue(tx.db, end.context.clock()):
            receiving.expire(tx, row)

    await end.step(work)
    row = await end.row()
    return [row.state] if row else []


async def queued(end: End) -> rows.QueuedStatement:
    item = await end.read(lambda db: db.execute("SELECT n FROM outbox WHERE kind = 'dispatch'").fetchone())
    found = await end.read(lambda db: outbox.get(db, item[0]))
    assert found is not None
    return found


async def test_expired_before_it_was_delivered_stays_expired(story: Story) -> None:
    alice, bob = story.alice, story.bob
    item = await queued(alice)
    story.now += LIFETIME_MS + 1
    assert await expire(alice) == ["expired"]
    me = alice.context.identity.device
    answer = await bob.step(lambda tx: inbound.take(tx, me, item.raw))
    assert (answer.code, await bob.row()) == (410, None)
    await alice.step(lambda tx: sending.on_acknowledged(tx, item, answer))
    row = await alice.row()
    assert row is not None and (row.state, row.code) == ("expired", 410) and row.message


async def test_an_expired_dispatch_takes_no_accept(story: Story) -> None:
    bob = story.bob
    while (row := await bob.row()) is None:
        await story.move()
    story.now += LIFETIME_MS + 1
    with pytest.raises(Gone, match="nothing pending"):  # the clock decides, also before anybody noted the expiry
        await bob.step(lambda tx: receiving.accept(tx, row.dispatch_id, cwd=""))
    assert await expire(bob) == ["expired"]
    with pytest.raises(Gone, match="nothing pending"):
        await bob.step(lambda tx: receiving.decline(tx, row.dispatch_id, reason=""))


async def test_an_accept_in_time_outlives_the_senders_expiry(story: Story) -> None:
    alice, bob = story.alice, story.bob
    while (row := await bob.row()) is None:
        await story.move()
    await bob.step(lambda tx: receiving.accept(tx, row.dispatch_id, cwd=""))
    story.now += LIFETIME_MS + 1
    # The word of the accept is on its way when the sender's own clock runs out.
    assert await expire(alice) == ["expired"]
    assert await expire(bob) == ["accepted"]
    while await story.carry(bob, alice):
        pass
    sent = await alice.row()
    assert sent is not None and sent.state == "accepted"


async def test_an_interruption_starts_the_deadline_anew_once(story: Story) -> None:
    bob = story.bob
    while (row := await bob.row()) is None:
        await story.move()
    deadlines = [open_as(Dispatch, row.raw)[0].expires]
    for _ in range(2):
        await bob.step(lambda tx: receiving.accept(tx, row.dispatch_id, cwd=""))
        story.now += LIFETIME_MS // 2
        await bob.come_back()
        now = await bob.row()
        assert now is not None and now.state == "pending"
        deadlines.append(now.expires)
    assert deadlines[1] == pytest.approx(deadlines[0] + LIFETIME_MS // 2, abs=100)
    assert deadlines[2] == deadlines[1]


async def test_an_answer_that_comes_too_late_or_after_the_end_allows_nothing(story: Story) -> None:
    alice, bob = story.alice, story.bob
    while not await bob.read(trace.open_approvals):
        await story.move()
    (asked,) = await bob.read(trace.open_approvals)

    async def allow() -> None:
        await bob.step(
            lambda tx: running.answer(tx, asked.dispatch_id, asked.request_id, allow=True, grant="once", note="")
        )

    sender = alice.context.identity.user_id
    await bob.step(lambda tx: granting.set_paused(tx, sender, paused=True))
    with pytest.raises(Forbidden, match="paused"):
        await allow()
    await bob.step(lambda tx: granting.set_paused(tx, sender, paused=False))
    story.now = asked.deadline + 1
    with pytest.raises(Conflict, match="nothing pending: nobody answered in time"):
        await allow()
    await bob.step(lambda tx: granting.revoke(tx, sender))
    with pytest.raises(Conflict, match="nothing pending: that tool call was already cancelled"):
        await allow()
    assert await bob.read(trace.open_approvals) == []
