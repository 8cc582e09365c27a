"""The live stream of a page: changes of its lists, and the trace of the dispatch it shows. Only reads.

Browsers open few connections per host, so each tab has one stream. Its position is `life-change-event`: the ChangeLog
that the numbers belong to, the last change sent, the last trace event sent. A page that reconnects with its position is
sent what it missed, or `reset` if that is no longer known: read everything again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from peer.api.responses import sse
from peer.dispatches.summary import with_words
from peer.protocol.documents import Document
from peer.protocol.errors import Invalid, NotFound
from peer.store import dispatches, trace, views

if TYPE_CHECKING:
    from peer.node.node import Node


MAX_STREAMS: Final = 32
KEEPALIVE_SECONDS: Final = 15.0
MOST_ROWS: Final = 200
"""Changed dispatches sent one by one; more at once become a `reset`."""
MOST_WAITING: Final = 1_000
"""Waiting calls that a page is told of, the oldest; later ones as those are answered."""
BATCH: Final = 500
BATCH_BYTES: Final = 2 * 1024 * 1024
"""Trace events in one message end at BATCH events or BATCH_BYTES bytes of text."""


class Position(NamedTuple):
    """The position of a stream, see above."""

    life: str
    change: int
    event: int

    def __str__(self) -> str:
        return f"{self.life}-{self.change}-{self.event}"


def position(text: str) -> Position | None:
    """Parse the position of a reconnecting page; None for ''. Raises Invalid."""
    if not text:
        return None
    life, _, numbers = text.partition("-")
    change, _, event = numbers.partition("-")
    if not (_is_number(change) and _is_number(event) and 0 < len(life) <= 16 and life.isalnum()):
        raise Invalid("that is no position of this stream", fix="open the page anew")
    return Position(life, int(change), int(event))


async def stream(
    node: Node, start: Position | None, follow: str, still_signed_in: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yield events as they come: reset, dispatch, approvals, trust, invitations, settings; of `follow` its trace.

    The stream ends at the first wake-up after `still_signed_in()` is false.
    """
    changes = node.changes
    sent = changes.last if start is None else start.change
    event = 0 if start is None else start.event
    approvals: list[Document] | None = None
    behind = start is None or start.life != changes.life

    def at() -> str:
        return str(Position(changes.life, sent, event))

    while still_signed_in():
        wakeup = node.signal.any
        notes = [] if behind else changes.since(sent)
        sent = changes.last
        if behind or notes is None or len(notes) > MOST_ROWS:
            behind = True
            yield sse("reset", at(), {})
            notes = []
        changed = [note.key for note in notes if note.kind == "dispatch"]
        live = node.queries.live()
        for row in await _rows(node, changed, live):
            yield sse("dispatch", at(), row)
        for kind in sorted({note.kind for note in notes} - {"dispatch"}):
            yield sse(kind, at(), {})
        whole = not follow or not (behind or approvals is None or follow in changed)
        while not whole:
            events, whole = await _events(node, follow, event)
            if events:
                event = events[-1]["seq"]
                yield sse("trace", at(), {"dispatch_id": follow, "events": events})
        if changed or behind or approvals is None:
            page = await node.queries.approvals(limit=MOST_WAITING)
            waiting = [_brief(item) for item in page["approvals"]]
            if approvals is None or [_key(item) for item in waiting] != [_key(item) for item in approvals]:
                yield sse("approvals", at(), {"waiting": waiting})
            approvals = waiting
        behind = False
        with trio.move_on_after(KEEPALIVE_SECONDS) as waited:
            await wakeup.wait()
        if waited.cancelled_caught:
            yield b": still here\n\n"


async def _rows(node: Node, wanted: list[str], live: views.Live) -> list[Document]:
    def query(db: sqlite3.Connection) -> list[Document]:
        found = []
        for dispatch_id in wanted:
            try:
                found.append(views.dispatch_brief(db, live.me, live.now, dispatch_id))
            except NotFound:
                continue
        return found

    if not wanted:
        return []
    return [row for row in await node.context.store.read(query) if row["status"] != "arriving"]


async def _events(node: Node, dispatch_id: str, after: int) -> tuple[list[Document], bool]:
    """Return the next events, those of calls with their `words`, and whether there are no more."""

    def query(db: sqlite3.Connection) -> tuple[list[tuple[int, int, str]], bool, str]:
        row = dispatches.get(db, dispatch_id)
        found = trace.events(db, dispatch_id, after=after, limit=BATCH)
        kept, size = [], 0
        for item in found:
            kept.append(item)
            size += len(item[2])
            if size > BATCH_BYTES:
                break
        folder = (row.cwd or "") if row is not None else ""
        return kept, len(kept) < BATCH and len(kept) == len(found), folder

    rows, whole, folder = await node.context.store.read(query)
    return [with_words(views.event_document(*row), folder) for row in rows], whole


def _brief(item: Document) -> Document:
    return {name: item[name] for name in ("dispatch_id", "request_id", "sender_id", "tool", "expires_in")}


def _key(item: Document) -> tuple[str, str]:
    return item["dispatch_id"], item["request_id"]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 16
