"""What a node holds of a run's events before they are stored."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from peer.runs.recorder import MAX_BUFFERED, Recorder
from peer.trust.scopes import Scope
from tests.conftest import HANG


async def test_events_wait_in_memory_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is slow holds up the reading of events, and no event is lost."""
    stored: list[int] = []
    largest = 0

    async def flush(one: Recorder) -> None:
        nonlocal largest
        largest = max(largest, len(one._events))
        await trio.lowlevel.checkpoint()
        events, one._events = one._events, []
        stored.extend(event["number"] for event in events)

    monkeypatch.setattr(Recorder, "flush", flush)
    # Any: stand-ins of which only these members are used.
    row: Any = SimpleNamespace(dispatch_id="d", attempt=1, edge_id="e", cwd="")
    journal: Any = SimpleNamespace(context=SimpleNamespace(clock=lambda: 0))
    one = Recorder(journal, row, Scope(tools=("Read",)), known=(), run_dir=tmp_path)
    for number in range(3 * MAX_BUFFERED + 5):
        await one.add({"kind": "reasoning", "number": number})
    assert largest == MAX_BUFFERED and len(one._events) == 5
    assert stored == list(range(3 * MAX_BUFFERED))


async def test_a_flush_of_nothing_loses_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As before each call that a person is asked about. Seen to fail: what it did then showed with the next one."""
    stored = trio.Event()
    monkeypatch.setattr(Recorder, "_record", lambda *_: stored.set())

    async def step(work: Any) -> None:
        await trio.lowlevel.checkpoint()
        work(None)

    row: Any = SimpleNamespace(dispatch_id="d", attempt=1, edge_id="e", cwd="")
    journal: Any = SimpleNamespace(context=SimpleNamespace(clock=lambda: 0), step=step)
    one = Recorder(journal, row, Scope(tools=("Read",)), known=(), run_dir=tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.flush_repeatedly)
        await trio.testing.wait_all_tasks_blocked()
        await one.flush()
        await one.add({"kind": "reasoning", "text": "hello"})
        with trio.fail_after(HANG):
            await stored.wait()
        nursery.cancel_scope.cancel()
