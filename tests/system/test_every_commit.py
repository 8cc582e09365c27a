"""Either daemon dies before or after every single commit of the story: one run per accept, one end, nothing lost."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from peer.protocol.signing import open_as
from peer.protocol.statements import Result
from peer.store import dispatches, outbox, trace
from tests.system.two_ends import Fault, Story

ENDINGS = ("none", "sender", "recipient", "revocation")


async def told(folder: Path, fault: Fault, ending: str) -> Story:
    story = Story(folder, fault, ending)
    try:
        await story.tell()
        await check(story)
    finally:
        story.close()
    return story


async def check(story: Story) -> None:
    alice, bob = story.alice, story.bob
    sent, got = await alice.row(), await bob.row()
    assert sent is not None and got is not None
    # Both sides say the same of how it ended, over the same signed bytes.
    assert sent.state == got.state == ("completed" if story.ending == "none" else "cancelled")
    assert sent.raw == got.raw and sent.result == got.result and got.result
    result, _ = open_as(Result, got.result)
    assert result.attempt == got.attempt == sent.attempt
    # One run per accept, and an accept more only where an interruption asked for it.
    assert got.interrupted < bob.lives
    assert got.attempt == 1 + got.interrupted or (got.state == "cancelled" and got.attempt == got.interrupted)
    # The chain of events is whole on both sides, and the result closes it.
    for attempt in range(1, got.attempt + 1):
        mine, theirs = [
            await end.read(partial(trace.batches, dispatch_id=got.dispatch_id, attempt=attempt)) for end in (alice, bob)
        ]
        assert mine == theirs or (story.ending == "revocation" and mine == theirs[: len(mine)])
    assert result.count == await bob.read(lambda db: trace.head(db, got.dispatch_id, got.attempt)[0])
    # Nothing waits any more, for anybody.
    for end in (alice, bob):
        assert await end.read(outbox.waiting_devices) == []
        assert await end.read(trace.open_approvals) == []
        assert await end.read(dispatches.awaited_files) == []
        assert end.run is None


@pytest.mark.parametrize("ending", ENDINGS)
async def test_killed_at_every_commit(memory: Path, ending: str) -> None:
    whole = await told(memory / "whole", Fault(), ending)
    for end in (whole.alice, whole.bob):
        # Up to where they part, the stories are the same.
        first = 0 if ending == "none" else whole.parted[end.name]
        assert end.commits - first >= 2
        for n in range(first, end.commits):
            # Before a commit is after the one before it, but for a run that had gone on meanwhile: that is Bob's.
            for when in ("before", "after") if end is whole.bob else ("after",):
                where = memory / f"{end.name}-{n}-{when}"
                try:
                    story = await told(where, Fault(end.name, n, when), ending)
                except AssertionError as error:
                    raise AssertionError(f"{end.name} killed {when} commit {n} of {ending}: {error}") from error
                assert (story.alice.lives, story.bob.lives) == ((2, 1) if end.name == "alice" else (1, 2))
