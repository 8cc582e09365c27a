"""What a run returned on an edge whose person looks at it first: held when the run ends, then sent, or not.

Until then the sender has read that the run ended, and nothing that the run made. Another end of the dispatch (a cancel,
a decline, a revocation) drops what is held: ending.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from peer.dispatches import reports
from peer.protocol.errors import Conflict, Invalid
from peer.protocol.outcomes import PARTS, Part
from peer.protocol.statements import FileRef
from peer.steps import receiving, running, states
from peer.steps.effects import StopRun
from peer.steps.ending import end
from peer.steps.transaction import Transaction
from peer.store import dispatches, rows, trace, unreleased
from peer.store.unreleased import RunResult

_HELD_HERE: Final = "the run has ended; its result waits until you release it, or decline the dispatch"
_HELD_THERE: Final = "the run has ended; its recipient reviews the result before it is sent"
_RELEASED: Final = "its recipient has reviewed the result, and sent it"


def parts_of(names: Collection[str]) -> frozenset[Part]:
    """Return the parts of these names. Raises Invalid for another name."""
    if unknown := set(names) - set(PARTS):
        raise Invalid(f"a result has no part {min(unknown)!r:.40}", fix=f"its parts are {', '.join(PARTS)}")
    return frozenset(part for part in PARTS if part in names)


def left_out_with(without: Collection[Part]) -> list[Part]:
    """Return the parts that are not sent if these are left out, in order.

    Events repeat the agent's words and what it read and wrote, so they go with the reply and with the files.
    """
    return [part for part in PARTS if part in without or (part == "trace" and without)]


def _without(result: RunResult, left_out: Collection[Part]) -> RunResult:
    """Return what a result says where parts are left out: no names or counts of what is in them either."""
    counted = {"trace": ("calls_allowed", "calls_denied"), "files": ("files_changed",)}
    silent = {name for part in left_out for name in counted.get(part, ())}
    return msgspec.structs.replace(
        result,
        reply="" if "reply" in left_out else result.reply,
        reason=result.bare_reason if "files" in left_out else result.reason,
        usage={name: number for name, number in result.usage.items() if name not in silent},
    )


def hold(tx: Transaction, dispatch_id: str, attempt: int, result: RunResult, files: Sequence[FileRef]) -> None:
    """End a run without telling its sender more than that. Raises Conflict if this attempt no longer runs."""
    running.record(
        tx,
        dispatch_id,
        attempt,
        [reports.status_event("held", _HELD_HERE)],
        [reports.status_event("held", _HELD_THERE)],
    )
    row = running.get_running(tx.db, dispatch_id, attempt)
    states.decide(tx, row, "held")
    dispatches.set_reason(
        tx.db, dispatch_id, code=result.code, message=result.own_reason or result.reason, fix=result.fix
    )
    trace.close_approvals(tx.db, dispatch_id, "ended")
    trace.charge(tx.db, dispatch_id, unreleased.add(tx.db, dispatch_id, result, tx.now))
    dispatches.add_files(tx.db, dispatch_id, "returned", files, statement="", ready=True)
    tx.note(StopRun(dispatch_id, ""))


def release(tx: Transaction, dispatch_id: str, *, without: Collection[Part] = ()) -> rows.Dispatch:
    """Sign and queue what is held, but for some parts; return the dispatch's new row. Raises NotFound, Conflict."""
    row, result = get_held(tx.db, dispatch_id)
    left_out = left_out_with(without)
    events = [] if "trace" in left_out else [event for _, event in unreleased.events(tx.db, dispatch_id)]
    note = f"{_RELEASED}, without {_listed(left_out)}" if left_out else _RELEASED
    trace.charge(tx.db, dispatch_id, running.sign_events(tx, row, [*events, reports.status_event("released", note)]))
    trace.add_status(tx.db, dispatch_id, row.attempt, "released", _released_here(left_out))
    # Files that are not sent stay here, with no statement that would name them.
    files = () if "files" in left_out else dispatches.take_returned(tx.db, dispatch_id)
    end(tx, row, result.status, files=files, **_without(result, left_out).content())
    return receiving.get_received(tx.db, dispatch_id)


def get_held(db: sqlite3.Connection, dispatch_id: str) -> tuple[rows.Dispatch, RunResult]:
    """Return a dispatch whose result is held, and that result. Raises NotFound, Conflict."""
    row = receiving.get_received(db, dispatch_id)
    found = unreleased.get(db, dispatch_id)
    if found is None:
        raise Conflict(
            f"nothing pending: this dispatch is {row.state}, and no result of it is held",
            fix=f"see `dispatch status {dispatch_id}`",
        )
    return row, found[0]


def _listed(parts: Sequence[Part]) -> str:
    names = {"reply": "its reply", "trace": "its events", "files": "its files"}
    return " and ".join(names[part] for part in parts)


def _released_here(left_out: Sequence[Part]) -> str:
    return f"you released the result, without {_listed(left_out)}" if left_out else "you released the result"
