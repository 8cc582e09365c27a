"""The live runs of a node: starting, finding and stopping them. What one run does is in run.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from peer.machine import model_route
from peer.machine.settings import Settings
from peer.projects.lock_files import Locked
from peer.runs.change_sets import ChangeSets
from peer.runs.lander import Lander
from peer.runs.removal import Remover
from peer.runs.run import GateProof, Run
from peer.steps.journal import Journal
from peer.store import rows
from peer.trust import scopes
from sandbox import frames


class RunRegistry:
    """Starts runs and finds them by dispatch."""

    def __init__(
        self,
        journal: Journal,
        settings: Callable[[], Settings],
        remover: Remover,
        changes: ChangeSets,
        lander: Lander,
        *,
        ended: Callable[[], None],
    ) -> None:
        """`remover` removes the folders of ended runs. `ended` is called after each run."""
        self._journal = journal
        self._ended = ended
        self._remover = remover
        self._changes = changes
        self._lander = lander
        self._settings = settings
        self.gate = GateProof()
        self._runs: dict[str, Run] = {}
        self._nursery: trio.Nursery | None = None

    # Any: the stubs that trio-typing brings along lack trio.TaskStatus.
    async def serve(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the nursery of all runs; cancelling this kills them."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def start(self, row: rows.Dispatch, scope: scopes.Scope, locked: Locked) -> None:
        """Run an accepted dispatch. `stop` finds it from now on, even before its process exists.

        `locked`: what its lock files named at accept.
        """
        settings = self._settings()
        known = (*model_route.secrets(settings), settings.token, settings.relay_token)
        run = Run(
            self._journal,
            row,
            scope,
            locked,
            gate=self.gate,
            known=known,
            remover=self._remover,
            changes=self._changes,
            lander=self._lander,
        )
        assert self._nursery is not None
        self._runs[row.dispatch_id] = run
        self._nursery.start_soon(self._run, run, settings)

    async def send_verdict(self, dispatch_id: str, frame: frames.Verdict) -> None:
        """Send a person's answer to the run of a dispatch, if it still runs."""
        if (run := self._runs.get(dispatch_id)) is not None:
            await run.send_verdict(frame)

    def stop(self, dispatch_id: str) -> None:
        """Stop the run of a dispatch, if there is one."""
        if (run := self._runs.get(dispatch_id)) is not None:
            run.stop()

    def stop_edge(self, edge_id: str) -> None:
        """Stop every run under an edge, whatever state its dispatch is in."""
        for run in list(self._runs.values()):
            if run.edge_id == edge_id:
                run.stop()

    def kill_all(self) -> None:
        """Kill every run at once, without giving its agent time to clean up."""
        for run in list(self._runs.values()):
            run.kill()

    async def _run(self, run: Run, settings: Settings) -> None:
        try:
            await run.run(settings)
        finally:
            if self._runs.get(run.dispatch_id) is run:
                del self._runs[run.dispatch_id]
            self._ended()
