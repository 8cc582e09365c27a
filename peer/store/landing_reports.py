"""The newest signed report of each dispatch on how much of its run's changes is in place. SQL only.

At the sender it is the one that was received, at the recipient the one that was sent.
"""

from __future__ import annotations

import sqlite3

from peer.protocol.signing import Signed
from peer.protocol.statements import LandingReport
from peer.store import rows


def get(db: sqlite3.Connection, dispatch_id: str) -> rows.LandingReport | None:
    """Return the report of a dispatch."""
    found = db.execute("SELECT * FROM landing_reports WHERE dispatch_id = ?", (dispatch_id,))
    return rows.one(rows.LandingReport, found.fetchone())


def put(db: sqlite3.Connection, signed: Signed) -> None:
    """Store a report in place of the one before. The caller has compared the counters."""
    report: LandingReport = signed.statement
    in_place, in_all = report.numbers or (None, None)
    db.execute(
        "INSERT OR REPLACE INTO landing_reports (dispatch_id, counter, landed, in_place, in_all, at, raw) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            report.dispatch_id,
            report.counter,
            report.landed,
            in_place,
            in_all,
            report.created,
            signed.raw,
        ),
    )
