"""The runs of a node while they last: starting one, finding it again, stopping it. What a run does is in run.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from peer.machine.settings import Settings
from peer.runs.removal import Remover
from peer.runs.run import GateProof, Run
from peer.steps.journal import Journal
from peer.store import rows
from peer.trust import scopes
from sandbox import frames


class RunRegistry:
    """All runs of this node: each is started here, and found here by whoever stops it."""

    def __init__(self, journal: Journal, settings: Callable[[], Settings], remover: Remover) -> None:
        """`remover`: of the folders of runs that have ended."""
        self._journal = journal
        self._remover = remover
        self._settings = settings
        self.gate = GateProof()
        self._runs: dict[str, Run] = {}
        self._nursery: trio.Nursery | None = None

    # Any: the stubs that trio-typing brings along lack trio.TaskStatus.
    async def serve(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Be the parent of all runs; cancelling this kills them."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def start(self, row: rows.Dispatch, scope: scopes.Scope) -> None:
        """Run an accepted dispatch. From here on `stop` finds it, also before its process is there."""
        settings = self._settings()
        known = (settings.model.api_key, settings.token)
        run = Run(self._journal, row, scope, gate=self.gate, known=known, remover=self._remover)
        assert self._nursery is not None
        self._runs[row.dispatch_id] = run
        self._nursery.start_soon(self._live, run, settings)

    async def tell(self, dispatch_id: str, frame: frames.Verdict) -> None:
        """Pass a person's answer on to a run."""
        if (run := self._runs.get(dispatch_id)) is not None:
            await run.tell(frame)

    def stop(self, dispatch_id: str) -> None:
        """End the run of a dispatch."""
        if (run := self._runs.get(dispatch_id)) is not None:
            run.stop()

    def stop_edge(self, edge_id: str) -> None:
        """End every run under an edge, whatever state its dispatch is in."""
        for run in list(self._runs.values()):
            if run.edge_id == edge_id:
                run.stop()

    def kill_all(self) -> None:
        """End every run now, without a farewell."""
        for run in list(self._runs.values()):
            run.kill()

    async def _live(self, run: Run, settings: Settings) -> None:
        try:
            await run.live(settings)
        finally:
            if self._runs.get(run.dispatch_id) is run:
                del self._runs[run.dispatch_id]
