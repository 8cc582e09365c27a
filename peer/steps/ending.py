"""How a received dispatch ends: the one function for every ending, so that none of its parts can be left out.

An interruption is no ending: the dispatch is in the inbox again (running.interrupt_all). A dispatch that is declined or
expires in the inbox had no run, and needs a decision instead of a result (receiving.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from peer.protocol.errors import NO_FIX
from peer.protocol.outcomes import Ended
from peer.protocol.statements import FileRef, Result
from peer.steps import states
from peer.steps.effects import StopRun
from peer.steps.transaction import Transaction
from peer.store import dispatches, rows, trace, unreleased

Ending = Literal["completed", "failed", "declined", "cancelled", "rejected"]

_STATUS: Final[dict[Ending, Ended]] = {
    "completed": "completed",
    "failed": "failed",
    "declined": "declined",
    "cancelled": "cancelled",
    "rejected": "failed",
}
"""What a result calls each. A machine that refuses a dispatch signs a failure of attempt 0."""
_APPROVALS: Final[dict[Ending, str]] = {"declined": "declined", "cancelled": "cancelled"}
"""What becomes of the calls that still wait: of these endings as they are called, else `ended`."""
MAX_REASON: Final = 2_000


def end(
    tx: Transaction,
    row: rows.Dispatch,
    ending: Ending,
    *,
    reason: str = "",
    code: int = 0,
    fix: str = NO_FIX,
    own_reason: str = "",
    files: Sequence[FileRef] = (),
    **content: Any,  # reply, usage, scope, sandbox: fields of a result; Result's own constructor checks them
) -> None:
    """End a received dispatch: its state, its waiting calls, what both people read, its signed result, its run.

    Whatever of the run was held and is not in `files` and `content` is not sent any more.

    `reason` goes to the sender, `own_reason` (else `reason`) and `fix` to the person here. Raises Conflict or Gone, and
    changes nothing, if it has ended.
    """
    states.decide(tx, row, ending)
    dispatches.set_reason(tx.db, row.dispatch_id, code=code, message=own_reason or reason, fix=fix)
    trace.close_approvals(tx.db, row.dispatch_id, _APPROVALS.get(ending, "ended"))
    trace.charge(tx.db, row.dispatch_id, -unreleased.drop(tx.db, row.dispatch_id))
    count, head = trace.head(tx.db, row.dispatch_id, row.attempt)
    signed = tx.context.sign_for(
        Result,
        row.peer,
        row.device,
        dispatch_id=row.dispatch_id,
        dispatch_digest=row.digest,
        attempt=row.attempt,
        status=_STATUS[ending],
        head=head,
        count=count,
        reason=reason[:MAX_REASON],
        code=code,
        files=tuple(files),
        **content,
    )
    dispatches.set_result(tx.db, row.dispatch_id, signed.raw)
    dispatches.add_files(tx.db, row.dispatch_id, "returned", files, statement=signed.statement.id, ready=True)
    tx.post(signed, edge_id=row.edge_id)
    tx.note(StopRun(row.dispatch_id, reason))
