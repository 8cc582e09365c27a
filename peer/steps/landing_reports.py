"""What the sender is told of a run's changes: how much of them is in place here. Receiving it: sending.py.

Only a number and a word leave, never a path or a name.
"""

from __future__ import annotations

import sqlite3

from peer.dispatches.fitting import Understood
from peer.protocol import landed as words
from peer.protocol.signing import open_as
from peer.protocol.statements import LandingReport, Result
from peer.steps.transaction import Transaction
from peer.store import change_sets, contacts, edges, landing_reports, outbox, rows
from peer.trust import scopes


def tell_landing(tx: Transaction, row: rows.Dispatch) -> None:
    """Sign and queue a report on the changes of a received dispatch's run, if its sender is to be told.

    The one place that decides so. Call it whenever something may have changed: another report that would say the same
    is not sent. Only of the attempt whose result was signed, so not while that is held; never over a revoked edge or to
    a blocked user; and only to a device that reads the type. Nothing on a review edge whose person sent nothing of the
    run.
    """
    if not row.result or not _reads_reports(tx.db, row):
        return
    edge = edges.get(tx.db, row.edge_id)
    if edge is None or edge.status == "revoked" or contacts.is_blocked(tx.db, row.peer):
        return
    result, _ = open_as(Result, row.result)
    scope = scopes.decode(edge.scope)
    returned = result.status in ("completed", "failed")  # nothing is, of a run that was declined or cancelled
    if scope.approval == "review" and not returned:
        return
    item = change_sets.get(tx.db, row.dispatch_id, result.attempt)
    if item is None:
        return
    in_place = len(change_sets.landed(tx.db, row.dispatch_id, item.attempt))
    word = words.landed(in_place=in_place, in_all=item.decidable, waits=item.waits)
    counted = {"change_set": item.digest, "in_place": in_place, "in_all": item.decidable}
    if not returned or "redacted" in (scope.results, _results_then(result)):
        counted = {}
    last = landing_reports.get(tx.db, row.dispatch_id)
    said = (word, counted.get("in_place"), counted.get("in_all"))
    if last is not None and (last.landed, last.in_place, last.in_all) == said:
        return
    # One report of a dispatch waits at most: the newer one says all that the older one did.
    outbox.purge_kind(tx.db, row.dispatch_id, LandingReport.type_name)
    signed = tx.context.sign_for(
        LandingReport,
        row.peer,
        row.device,
        dispatch_id=row.dispatch_id,
        dispatch_digest=row.digest,
        attempt=item.attempt,
        # The clock, so that it grows after a restored backup too; above the last one, whatever the clock says.
        counter=max(tx.now, last.counter + 1 if last is not None else 0),
        landed=word,
        **counted,
    )
    landing_reports.put(tx.db, signed)
    tx.post(signed, edge_id=row.edge_id)


def _reads_reports(db: sqlite3.Connection, row: rows.Dispatch) -> bool:
    device = contacts.device(db, row.device)
    return device is not None and Understood.of_hello(device.hello).reads(LandingReport)


def _results_then(result: Result) -> scopes.Results:
    """What the sender was to get when the run was accepted; the edge may have been edited since."""
    return scopes.decode_summary(result.scope).results if result.scope else "full"
