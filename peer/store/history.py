"""Full-text search of dispatches by task, reply and peer: the index and its queries. SQL only.

dispatches.py writes the index, in the same transactions as the rows.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, Invalid
from peer.protocol.signing import open_as
from peer.protocol.statements import Result
from peer.store.lists import Listed, columns, dispatch_row

MAX_QUERY: Final = 200
MAX_WORDS: Final = 12
SNIPPET_TOKENS: Final = 24
MAX_BY_ID: Final = 10
MAX_SNIPPET: Final = 1_000
"""Characters. FTS5 bounds a snippet in tokens, and a token may be as long as the text."""
MARK: Final = ("\ue000", "\ue001")
"""Put around each match in a snippet. Private-use characters; a text that contains them merely shows wrong marks."""


def add(db: sqlite3.Connection, dispatch_id: str, peer: str, task: str) -> None:
    """Index a new dispatch."""
    added = db.execute("INSERT INTO searchable (dispatch_id, peer, task) VALUES (?, ?, ?)", (dispatch_id, peer, task))
    _index(db, added.lastrowid)


def set_reply(db: sqlite3.Connection, dispatch_id: str, reply: str) -> None:
    """Index the reply of a dispatch that has a result."""
    row = db.execute("SELECT * FROM searchable WHERE dispatch_id = ?", (dispatch_id,)).fetchone()
    if row is None or row["reply"] == reply:
        return
    # An external-content index needs the old values to delete an entry (SQLite FTS5, section 4.4.3).
    db.execute(
        "INSERT INTO history (history, rowid, peer, task, reply) VALUES ('delete', ?, ?, ?, ?)",
        (row["n"], row["peer"], row["task"], row["reply"]),
    )
    db.execute("UPDATE searchable SET reply = ? WHERE n = ?", (reply, row["n"]))
    _index(db, row["n"])


def reply_of(raw: bytes) -> str:
    """Return the reply in a signed result, "" if there is none or it is unreadable. Migrations call it too."""
    if not raw:
        return ""
    try:
        return open_as(Result, raw)[0].reply
    except DispatchError:
        return ""


def _index(db: sqlite3.Connection, n: int | None) -> None:
    db.execute(
        "INSERT INTO history (rowid, peer, task, reply) SELECT n, peer, task, reply FROM searchable WHERE n = ?", (n,)
    )


def fts_query(query: str) -> str:
    """Return typed words as an FTS5 query: all must match, the last one as a prefix. "" for none.

    Each word is quoted, so the input cannot contain operators. Raises Invalid if it is too long.
    """
    if len(query) > MAX_QUERY:
        raise Invalid(
            f"the search has {len(query)} characters; at most {MAX_QUERY} can be searched for",
            fix="search for fewer words",
        )
    found = re.findall(r"\w+", query)[:MAX_WORDS]
    return " ".join(f'"{word}"*' for word in found)


def search(db: sqlite3.Connection, me: str, now: int, *, query: str, limit: int, before: str | None = None) -> Document:
    """Return {dispatches: [row], more}, newest first, of both directions; with `query` only those that match.

    A row is that of lists.py, with `snippet`: the text around the matches, each between the characters of MARK. The
    page starts after the dispatch with the id `before`. A query that may begin an id finds those first. Raises Invalid.
    """
    typed = fts_query(query)
    by_id = [] if before else _beginning(db, query.strip().lower())
    if query.strip() and not typed:
        return {"dispatches": [], "more": False}
    wheres, values = ["d.state != 'arriving'"], list[object]()
    tables, snippet = "dispatches d", "''"
    if typed:
        tables = "history JOIN searchable s ON s.n = history.rowid JOIN dispatches d USING (dispatch_id)"
        snippet = f"substr(snippet(history, -1, '{MARK[0]}', '{MARK[1]}', '…', {SNIPPET_TOKENS}), 1, {MAX_SNIPPET})"
        wheres.append("history MATCH ?")
        values.append(typed)
    if before:
        wheres.append(
            "(d.created, d.dispatch_id) < (SELECT created, dispatch_id FROM dispatches WHERE dispatch_id = ?)"
        )
        values.append(before)
    found = db.execute(
        f"SELECT {columns('d')}, {snippet} FROM {tables} WHERE {' AND '.join(wheres)} "
        "ORDER BY d.created DESC, d.dispatch_id DESC LIMIT ?",
        (*values, limit + 1),
    ).fetchall()
    rows = [dispatch_row(row, me, now) for row in by_id]
    known = {row.dispatch_id for row in by_id}
    for row in found[:limit]:
        if row[0] in known:
            continue
        document = dispatch_row(Listed(*tuple(row)[:-1]), me, now)
        if row[-1]:
            document["snippet"] = row[-1]
        rows.append(document)
    return {"dispatches": rows, "more": len(found) > limit}


def _beginning(db: sqlite3.Connection, start: str) -> list[Listed]:
    """Return the dispatches whose id begins so, if that may be the beginning of one."""
    if not re.fullmatch(r"[0-9a-f-]{4,36}", start):
        return []
    found = db.execute(
        f"SELECT {columns()} FROM dispatches "
        "WHERE dispatch_id >= ? AND dispatch_id < ? AND state != 'arriving' ORDER BY dispatch_id LIMIT ?",
        (start, start + "g", MAX_BY_ID),
    )
    return [Listed(*row) for row in found]
