"""The change set of a run: kept when the run has ended, its entries put in place, taken back, or thrown away.

Reading and placing files is `sandbox.changes` and `peer.landing`; here only what is recorded of it. The contents lie in
the state folder, at `folder_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Conflict, Gone, Invalid, NotFound
from peer.steps import receiving
from peer.steps.effects import ChangesFreed, DispatchChanged
from peer.steps.landing_reports import tell_landing
from peer.steps.transaction import Transaction
from peer.store import change_sets, rows


def folder_of(state: StateFolder, dispatch_id: str, attempt: int) -> Path:
    """Return where the contents of a change set lie."""
    return state.changes / dispatch_id / str(attempt)


def keep(
    tx: Transaction, item: rows.ChangeSetRow, place: Callable[[], None], *, land: Collection[int] = ()
) -> rows.Landing | None:
    """Store a change set, unless that of this attempt is stored already, and begin a landing of the entries `land`.

    `place` moves its contents to `folder_of`. Inside the transaction, so that what removes unneeded contents cannot
    come between. Returns the landing, None for no entries.
    """
    receiving.get_received(tx.db, item.dispatch_id)
    if change_sets.get(tx.db, item.dispatch_id, item.attempt) is not None:
        return None
    change_sets.add(tx.db, item)
    tx.note(DispatchChanged(item.dispatch_id))
    place()
    if land:
        return begin(tx, item, land, unasked=True)
    _tell(tx, item.dispatch_id)
    return None


def latest(tx_or_rows: Collection[rows.ChangeSetRow], dispatch_id: str, attempt: int | None) -> rows.ChangeSetRow:
    """Return the change set that a person means: of `attempt`, else the newest that waits, else the newest.

    Raises NotFound if there is none, Gone if its contents were removed.
    """
    known = [item for item in tx_or_rows if attempt in (None, item.attempt)]
    if not known:
        raise NotFound(
            f"no run of {dispatch_id} changed anything in your folders",
            fix=f"see `dispatch status {dispatch_id}`",
        )
    chosen = max(known, key=lambda item: (item.state == "waiting", item.state == "closed", item.attempt))
    if chosen.state == "removed":
        raise Gone(
            "these changes were discarded, or removed by this machine's retention rules",
            fix="ask for the task again if you want them",
        )
    return chosen


def begin(tx: Transaction, item: rows.ChangeSetRow, entries: Collection[int], *, unasked: bool = False) -> rows.Landing:
    """Record that entries are about to be put in place. Raises Conflict if they were, or others are now.

    `unasked`: the end of the run begins it, not a person; see `begin_again`.
    """
    current = _current(tx, item)
    done = change_sets.landings(tx.db, item.dispatch_id, item.attempt)
    _require_idle(done)
    landed = change_sets.landed(tx.db, item.dispatch_id, item.attempt)
    if landed & frozenset(entries):
        raise Conflict("some of these changes are in place already", fix=f"see `dispatch changes {item.dispatch_id}`")
    number = change_sets.begin(tx.db, current, sorted(entries), tx.now, unasked=unasked)
    return next(each for each in change_sets.landings(tx.db, item.dispatch_id, item.attempt) if each.number == number)


def finish(tx: Transaction, landing: rows.Landing, *, decidable: Collection[int], size: int) -> None:
    """Record that a landing put its entries in place. `size`: the bytes of contents that are kept now."""
    change_sets.set_landing(tx.db, landing, "landed", entries=sorted(landing.numbers))
    _recount(tx, landing, decidable, size)


def give_up(tx: Transaction, landing: rows.Landing) -> None:
    """Record that a landing put nothing in place."""
    change_sets.forget(tx.db, landing)
    tx.note(DispatchChanged(landing.dispatch_id))
    _tell(tx, landing.dispatch_id)


def begin_again(tx: Transaction, item: rows.ChangeSetRow, landing: rows.Landing) -> rows.Landing:
    """Begin an unasked landing again that a crash interrupted before anything was in place.

    Once: the new one counts as asked for, so a landing that brings the daemon down does not do so at every start.
    """
    change_sets.forget(tx.db, landing)
    return begin(tx, item, landing.numbers)


def begin_undo(tx: Transaction, item: rows.ChangeSetRow) -> rows.Landing:
    """Record that the last landing is about to be taken back. Raises Conflict if there is none."""
    done = change_sets.landings(tx.db, item.dispatch_id, item.attempt)
    _require_idle(done)
    landed = [each for each in done if each.state == "landed"]
    if not landed:
        raise Conflict("no change of this run is in place", fix=f"see `dispatch changes {item.dispatch_id}`")
    change_sets.set_landing(tx.db, landed[-1], "undoing", entries=sorted(landed[-1].numbers))
    return replace(landed[-1], state="undoing")


def finish_undo(
    tx: Transaction, landing: rows.Landing, *, stay: Collection[int], decidable: Collection[int], size: int
) -> None:
    """Record that a landing was taken back, but for the entries that `stay` in place."""
    change_sets.set_landing(tx.db, landing, "landed" if stay else "undone", entries=sorted(stay))
    _recount(tx, landing, decidable, size)


def discard(tx: Transaction, item: rows.ChangeSetRow, *, size: int) -> None:
    """Throw away what waits. If entries are in place, the contents stay, to take them back."""
    current = _current(tx, item)
    done = change_sets.landings(tx.db, item.dispatch_id, item.attempt)
    _require_idle(done)
    if any(each.state == "landed" for each in done):
        change_sets.set_decided(tx.db, current, waits=0, size=size, now=tx.now)
    else:
        change_sets.let_go(tx.db, item.dispatch_id, item.attempt)
        tx.note(ChangesFreed())
    tx.note(DispatchChanged(item.dispatch_id))
    _tell(tx, item.dispatch_id)


def sweep(tx: Transaction, set_aside: Callable[[Path], None]) -> None:
    """Hand every folder of contents that no row needs to `set_aside`. In a transaction; see `keep`."""
    needed = change_sets.kept(tx.db)
    try:
        named = list(tx.context.state.changes.iterdir())
    except FileNotFoundError:
        return
    for folder in named:
        if folder.name.startswith("."):
            continue  # what is being removed
        attempts = list(folder.iterdir()) if folder.is_dir() else [folder]
        for each in attempts or [folder]:
            if not each.name.isdecimal() or (folder.name, int(each.name)) not in needed:
                set_aside(each)


def _current(tx: Transaction, item: rows.ChangeSetRow) -> rows.ChangeSetRow:
    current = change_sets.get(tx.db, item.dispatch_id, item.attempt)
    if current is None or current.digest != item.digest:
        raise Conflict(
            "the stored changes have changed since you saw them", fix=f"see `dispatch changes {item.dispatch_id}`"
        )
    if current.state != "waiting":
        raise Conflict("none of these changes is waiting any more", fix=f"see `dispatch changes {item.dispatch_id}`")
    return current


def _require_idle(done: Collection[rows.Landing]) -> None:
    if any(each.state in ("begun", "undoing") for each in done):
        raise Conflict("changes of this run are being applied now", fix="try again in a moment")


def _recount(tx: Transaction, landing: rows.Landing, decidable: Collection[int], size: int) -> None:
    item = change_sets.get(tx.db, landing.dispatch_id, landing.attempt)
    if item is None:
        raise Invalid("the change set of this landing is gone", fix="run `dispatch doctor`")
    landed = change_sets.landed(tx.db, landing.dispatch_id, landing.attempt)
    change_sets.set_decided(tx.db, item, waits=len(frozenset(decidable) - landed), size=size, now=tx.now)
    tx.note(DispatchChanged(landing.dispatch_id))
    _tell(tx, landing.dispatch_id)


def _tell(tx: Transaction, dispatch_id: str) -> None:
    tell_landing(tx, receiving.get_received(tx.db, dispatch_id))
