"""Puts entries of a run's change set into the person's folders, takes them back, and finishes what a crash interrupted.

How files are placed is `peer.landing`; what is recorded is `steps.change_sets`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import structlog
import trio

from peer.landing import engine
from peer.landing.commits import namespace
from peer.landing.engine import Forecast, Refusal
from peer.protocol.errors import DispatchError
from peer.runs.change_sets import ChangeSets, decidable, size_of
from peer.steps import change_sets as steps
from peer.steps.journal import Journal
from peer.store import change_sets, rows
from sandbox.changes.values import ChangeSet, Entry
from sandbox.views.record import ViewRecord

log = structlog.get_logger(__name__)

_IDLE_SECONDS: Final = 60.0
_TRIES: Final = 3
"""How often an unasked landing is tried, each time without what stood in its way."""


class Applied(NamedTuple):
    """`landed`: numbers of the entries that are in place now, `irreversible` those of them that cannot be taken back;
    `refused`: what stood in the way, then nothing is.
    """

    landed: frozenset[int]
    refused: list[Refusal]
    irreversible: frozenset[int] = frozenset()


class Lander:
    """One landing or undo at a time, of whichever run."""

    def __init__(self, journal: Journal, sets: ChangeSets) -> None:
        self._journal = journal
        self._sets = sets
        self._busy = trio.Lock()
        self._over = trio.Event()
        """Set when a landing or undo is over, and replaced."""

    async def dry_run(self, item: rows.ChangeSetRow, changes: ChangeSet, chosen: Collection[int]) -> Forecast:
        """Return which of the chosen entries could not be put in place now or not be taken back. Changes nothing."""
        check = partial(
            engine.dry_run,
            self._folder(item),
            _entries(changes, chosen),
            _views(changes),
            namespace=namespace(item.dispatch_id, item.attempt),
        )
        return await trio.to_thread.run_sync(check)

    async def apply(self, item: rows.ChangeSetRow, changes: ChangeSet, chosen: Collection[int]) -> Applied:
        """Put all of the chosen entries in place, or none. Raises Conflict if they cannot be chosen any more."""
        async with self._busy:
            landing = await self._journal.step(lambda tx: steps.begin(tx, item, chosen))
            return await self._carry_out(landing, changes)

    async def land_unasked(self, landing: rows.Landing) -> None:
        """Carry out a landing that the end of its run began: of what needs no choice of a person.

        What stands in the way waits with the rest, and does not keep the others from landing.
        """
        async with self._busy:
            await self._land_what_can(landing)

    async def _land_what_can(self, landing: rows.Landing) -> None:
        item, changes = await self._set_of(landing)
        chosen, unasked = landing.numbers, bool(landing.unasked)
        for _ in range(_TRIES):
            done = await self._carry_out(landing, changes)
            chosen -= {each.number for each in done.refused}
            if not done.refused or not chosen:
                return
            log.info("landing.refused", dispatch=landing.dispatch_id, entries=len(done.refused))
            landing = await self._journal.step(partial(steps.begin, item=item, entries=chosen, unasked=unasked))
        await self._give_up(landing)

    async def _carry_out(self, landing: rows.Landing, changes: ChangeSet) -> Applied:
        with trio.CancelScope(shield=True):
            try:
                place = partial(
                    engine.apply,
                    self._folder(landing),
                    _entries(changes, landing.numbers),
                    _views(changes),
                    self._journal_of(landing),
                    namespace=namespace(landing.dispatch_id, landing.attempt),
                )
                refused = await trio.to_thread.run_sync(place)
            except BaseException:
                await self._settle(landing)
                raise
            if refused:
                await self._give_up(landing)
                return Applied(frozenset(), refused)
            final = await trio.to_thread.run_sync(engine.irreversible, self._journal_of(landing))
            await self._finish(landing, changes)
            return Applied(landing.numbers, [], final)

    async def idle(self, dispatch_id: str) -> None:
        """Wait until no landing of this dispatch is under way, a minute at most."""
        with trio.move_on_after(_IDLE_SECONDS):
            while True:
                over = self._over
                under_way = await self._journal.read(change_sets.unfinished)
                if not any(each.dispatch_id == dispatch_id for each in under_way):
                    return
                await over.wait()

    def _note_over(self) -> None:
        self._over.set()
        self._over = trio.Event()

    async def undo(self, item: rows.ChangeSetRow) -> Applied:
        """Take the last landing back, file by file; `refused` is what the person changed since, `landed` what stays."""
        async with self._busy:
            landing = await self._journal.step(lambda tx: steps.begin_undo(tx, item))
            with trio.CancelScope(shield=True):
                return await self._take_back(landing)

    async def discard(self, item: rows.ChangeSetRow) -> None:
        """Throw away what waits."""
        async with self._busy:
            size = await trio.to_thread.run_sync(size_of, self._folder(item))
            await self._journal.step(lambda tx: steps.discard(tx, item, size=size))

    async def resume(self) -> None:
        """Finish or take back what a crash interrupted; once, at the node's start. Unasked landings are tried again."""
        async with self._busy:
            for landing in await self._journal.read(change_sets.unfinished):
                try:
                    if landing.state == "undoing":
                        await self._take_back(landing)
                    elif landing.unasked:
                        await self._settle_unasked(landing)
                    else:
                        await self._settle(landing)
                except (DispatchError, OSError):
                    log.exception("landing.not_resumed", dispatch=landing.dispatch_id)

    async def _settle(self, landing: rows.Landing) -> None:
        outcome = await trio.to_thread.run_sync(engine.resume, self._journal_of(landing))
        if outcome == "applied":
            _, changes = await self._set_of(landing)
            await self._finish(landing, changes)
        else:
            await self._give_up(landing)

    async def _settle_unasked(self, landing: rows.Landing) -> None:
        """Finish it, or land it now: nobody would come back to it as to a landing that a person had asked for."""
        outcome = await trio.to_thread.run_sync(engine.resume, self._journal_of(landing))
        item, changes = await self._set_of(landing)
        if outcome == "applied":
            await self._finish(landing, changes)
            return
        log.info("landing.begun_again", dispatch=landing.dispatch_id)
        again = await self._journal.step(partial(steps.begin_again, item=item, landing=landing))
        await self._land_what_can(again)

    async def _take_back(self, landing: rows.Landing) -> Applied:
        refused = await trio.to_thread.run_sync(engine.undo, self._journal_of(landing))
        stay = frozenset(each.number for each in refused)
        _, changes = await self._set_of(landing)
        size = await trio.to_thread.run_sync(size_of, self._folder(landing))
        await self._journal.step(
            lambda tx: steps.finish_undo(tx, landing, stay=stay, decidable=decidable(changes), size=size)
        )
        self._note_over()
        return Applied(stay, refused)

    async def _give_up(self, landing: rows.Landing) -> None:
        await self._journal.step(lambda tx: steps.give_up(tx, landing))
        self._note_over()

    async def _finish(self, landing: rows.Landing, changes: ChangeSet) -> None:
        size = await trio.to_thread.run_sync(size_of, self._folder(landing))
        await self._journal.step(lambda tx: steps.finish(tx, landing, decidable=decidable(changes), size=size))
        self._note_over()

    async def _set_of(self, landing: rows.Landing) -> tuple[rows.ChangeSetRow, ChangeSet]:
        item = await self._journal.read(lambda db: change_sets.get(db, landing.dispatch_id, landing.attempt))
        assert item is not None  # a landing refers to it
        return item, await trio.to_thread.run_sync(self._sets.load, item)

    def _folder(self, item: rows.ChangeSetRow | rows.Landing) -> Path:
        return steps.folder_of(self._journal.context.state, item.dispatch_id, item.attempt)

    def _journal_of(self, landing: rows.Landing) -> Path:
        return self._folder(landing) / f"landing-{landing.number}"


def _entries(changes: ChangeSet, chosen: Collection[int]) -> Sequence[Entry]:
    return [entry for entry in changes.entries if entry.number in chosen]


def _views(changes: ChangeSet) -> dict[int, ViewRecord]:
    return {view.number: view for view in changes.views}
