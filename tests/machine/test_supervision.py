"""Work that fails is taken up again; a cancellation is none of its business."""

from __future__ import annotations

import sqlite3

import pytest
import trio
from trio.testing import MockClock

from peer.machine.supervision import PAUSE_SECONDS, supervise
from peer.protocol.errors import Unavailable


@pytest.mark.parametrize(
    "failure",
    [
        Unavailable("the disk is full", fix="try again"),
        sqlite3.OperationalError("disk I/O error"),
        ExceptionGroup("of a nursery", [OSError(28, "No space left on device")]),
    ],
)
async def test_it_is_taken_up_again_after_a_pause(autojump_clock: MockClock, failure: Exception) -> None:
    at: list[float] = []

    async def work() -> None:
        at.append(trio.current_time())
        if len(at) < 3:
            raise failure

    begun = trio.current_time()
    await supervise("work", work)
    assert [moment - begun for moment in at] == pytest.approx([0, PAUSE_SECONDS, 2 * PAUSE_SECONDS])


async def test_cancelling_ends_it(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        await supervise("work", trio.sleep_forever)
    assert scope.cancelled_caught
