"""When the task that removes looks at what is kept. What it removes then: test_thinning and test_freeing in steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from peer.machine.settings import Settings
from peer.node.notifications import notifications_for
from peer.node.storage import LONGEST_WAIT_SECONDS, Storage
from peer.runs import registry
from peer.steps import running
from peer.steps.effects import DispatchChanged, Effects
from peer.steps.journal import Journal
from peer.store.database import Store
from tests.conftest import HANG
from tests.steps.people import accept, connect, people, send


async def test_what_grows_old_is_found_without_anybody_doing_anything(tmp_path: Path, mock_clock: MockClock) -> None:
    """Seen to fail without the longest wait. And nobody is notified of what is thinned, seen to fail without the look
    at it in notifications_for."""
    with people(tmp_path, "alice", "bob") as (clock, alice, bob):
        connect(alice, bob)
        dispatch_id = send(alice, bob)
        alice.deliver(bob)
        accept(bob, dispatch_id)
        event = '{"kind":"reasoning","text":"hm"}'
        bob.step(lambda tx: running.record(tx, dispatch_id, 1, [event], [event]))
        bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "failed"))
        bob.deliver(alice)
        steps, store = trio.Semaphore(0), Store.open(alice.context.state.store)
        noted: list[Effects] = []

        def applied(effects: Effects) -> None:
            noted.append(effects)
            steps.release()

        storage = Storage(Journal(replace(alice.context, store=store), applied), lambda: Settings(retention_days=2))

        async def looks(times: int) -> None:
            for _ in range(times):
                await steps.acquire()
            await wait_all_tasks_blocked()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(storage.run)
            await looks(2)
            assert alice.row(dispatch_id).thinned == 0
            clock.pass_seconds(2 * 86_400)
            mock_clock.jump(LONGEST_WAIT_SECONDS)
            await looks(3)
            row = alice.row(dispatch_id)
            assert row.thinned == clock.now and DispatchChanged(dispatch_id) in noted[2]
            assert list(notifications_for(replace(row, thinned=0), [], since=row.updated)) != []
            assert list(notifications_for(row, [], since=row.updated)) == []
            storage.wake()
            await looks(2)
            nursery.cancel_scope.cancel()
        store.close()


@pytest.mark.parametrize("fails", [False, True])
async def test_the_end_of_a_run_is_told_when_its_folder_is_gone(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """While it is there its dispatch is not thinned. Seen to fail with a call before the run's own end."""
    told: list[str] = []
    ended = trio.Event()

    class FakeRun:
        dispatch_id = "d"

        def __init__(self, *_: object, **__: object) -> None: ...

        async def run(self, _settings: object) -> None:
            await trio.lowlevel.checkpoint()
            told.append("folder removed")
            if fails:
                raise RuntimeError("a defect")

    def end() -> None:
        told.append("ended")
        ended.set()

    monkeypatch.setattr(registry, "Run", FakeRun)
    nothing: Any = None
    settings = Settings()
    row: Any = SimpleNamespace(dispatch_id="d")
    runs = registry.RunRegistry(nothing, lambda: settings, nothing, nothing, nothing, ended=end)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(runs.serve)
            runs.start(row, nothing, nothing)
            with trio.fail_after(HANG):
                await ended.wait()
            nursery.cancel_scope.cancel()
    except* RuntimeError:
        assert fails
    assert told == ["folder removed", "ended"]
