"""What an accept fixes for the run that it starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from peer.machine.live_settings import LiveSettings
from peer.machine.settings import Settings
from peer.node.deciding import DecisionService
from peer.projects.lock_files import Locked
from peer.runs.change_sets import ChangeSets
from peer.runs.folders import RunFolders
from peer.runs.lander import Lander
from peer.runs.registry import RunRegistry
from peer.runs.removal import Remover
from peer.runs.run import GateProof, Run
from peer.store import rows
from peer.trust.scopes import Registry, Scope
from tests.node.test_slow_work import journal_of
from tests.steps.people import connect, people, send

NPM = Registry("npm", "https://npm.example")


async def test_packages_are_those_that_lock_files_name_when_the_person_accepts(tmp_path: Path) -> None:
    """Seen to fail while they were read at the start of the run."""
    project = tmp_path / "project"
    project.mkdir()
    lock = project / "yarn.lock"
    lock.write_text('left-pad@^1:\n  version "1.3.0"\n')
    started: list[Run] = []

    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob, Scope(tools=("Bash",), network=("packages",), registries=(NPM,), paths=(str(project),)))
        dispatch_id = send(alice, bob)
        alice.deliver(bob)
        journal = journal_of(bob)
        sets = ChangeSets(journal, Remover(tmp_path / "changes"))
        parts: dict[str, Any] = {"remover": Remover(tmp_path / "trash"), "changes": sets, "known": ()}

        class Runs:
            def start(self, row: rows.Dispatch, scope: Scope, locked: Locked) -> None:
                lock.write_text('evil@^1:\n  version "6.6.6"\n')
                started.append(
                    Run(journal, row, scope, locked, gate=GateProof(), lander=Lander(journal, sets), **parts)
                )

        async def has_key() -> None:
            pass

        live = cast(LiveSettings, SimpleNamespace(require_key=has_key))
        folders = RunFolders(journal.context, Settings)
        await DecisionService(journal, live, folders, cast(RunRegistry, Runs())).accept(dispatch_id, str(project))
        (run,) = started
        frame = await run._start_frame(Settings(runtime="scripted"))
        assert frame.network.packages == {"npm": {"left-pad": ["1.3.0"]}}
        journal.context.store.close()
