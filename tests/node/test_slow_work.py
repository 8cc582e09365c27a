"""Walks over disk and /proc happen before a step, never inside: whoever reads the store does not wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from peer.machine import mcp_servers
from peer.machine.live_settings import LiveSettings
from peer.machine.settings import Settings
from peer.node.deciding import DecisionService
from peer.node.grantable import Grantable
from peer.node.trust import TrustService
from peer.projects import lock_files
from peer.protocol.errors import DispatchError
from peer.runs import start_frame
from peer.runs.change_sets import ChangeSets
from peer.runs.folders import RunFolders
from peer.runs.lander import Lander
from peer.runs.registry import RunRegistry
from peer.runs.removal import Remover
from peer.runs.run import GateProof, Run
from peer.steps.context import Context
from peer.steps.journal import Journal
from peer.store import contacts
from peer.store.database import Store
from peer.trust import scopes
from tests.conftest import HANG
from tests.steps.people import Person, accept, connect, people, send

WITH_A_SERVER = scopes.Scope(tools=("Read",), mcp_servers=("mail",))


class Walk:
    """A walk that lasts until it is let go."""

    def __init__(self, found: object) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._found = found

    def __call__(self, *_: object) -> object:
        self.begun.set()
        assert self.go_on.wait(HANG)
        return self._found


async def the_store_is_free(journal: Journal, walk: Walk, slow: Callable[[], Any]) -> None:
    """Have `slow` run into the walk, and use the store meanwhile, as every route of the API does."""

    async def whatever_comes_of_it() -> None:
        with suppress(DispatchError):
            await slow()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(whatever_comes_of_it)
            await trio.to_thread.run_sync(walk.begun.wait, 60)
            assert walk.begun.is_set()
            with trio.fail_after(HANG):  # a guard: waiting for the walk would last as long as the walk does
                assert len(await journal.read(contacts.every)) == 1
                assert await journal.step(lambda tx: tx.now) > 0
            walk.go_on.set()
            nursery.cancel_scope.cancel()
    finally:
        walk.go_on.set()


def journal_of(person: Person) -> Journal:
    """The same person's store, opened as a node opens it."""
    context = person.context
    opened = Context(context.state, context.identity, Store.open(context.state.store), context.blobs, context.clock)
    return Journal(opened, lambda _: None)


async def test_nobody_waits_for_what_a_start_frame_takes_from_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with the state folders looked for inside the read."""
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        dispatch_id = send(alice, bob)
        alice.deliver(bob)
        row = accept(bob, dispatch_id)
        walk = Walk(())
        monkeypatch.setattr(start_frame, "all_state_folders", walk)
        journal = journal_of(bob)
        sets = ChangeSets(journal, Remover(tmp_path / "changes"))
        run = Run(
            journal,
            row,
            scopes.Scope(tools=("Read",)),
            lock_files.read([]),
            gate=GateProof(),
            remover=Remover(tmp_path / "trash"),
            changes=sets,
            lander=Lander(journal, sets),
            known=(),
        )
        await the_store_is_free(journal, walk, lambda: run._start_frame(Settings(runtime="scripted")))
        journal.context.store.close()


async def test_nobody_waits_for_the_servers_that_an_accept_looks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with the servers discovered inside the read."""
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob, WITH_A_SERVER)
        dispatch_id = send(alice, bob)
        alice.deliver(bob)
        walk = Walk(mcp_servers.InstalledServers())
        monkeypatch.setattr(mcp_servers, "discover", walk)
        journal = journal_of(bob)

        async def has_key() -> None:
            pass

        settings = cast(LiveSettings, SimpleNamespace(require_key=has_key))
        decisions = DecisionService(journal, settings, cast(RunFolders, None), cast(RunRegistry, None))
        await the_store_is_free(journal, walk, lambda: decisions.accept(dispatch_id, None))
        journal.context.store.close()


async def test_nobody_waits_for_the_servers_that_a_grant_looks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        walk = Walk(mcp_servers.InstalledServers())
        monkeypatch.setattr(mcp_servers, "discover", walk)
        journal = journal_of(bob)
        nothing = cast(Any, None)
        machine = Grantable(bob.context.state.path, nothing, Settings)
        trust = TrustService(journal, nothing, nothing, machine)
        await the_store_is_free(journal, walk, trust.installed)
        journal.context.store.close()
