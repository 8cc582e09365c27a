"""Checks of what a recipient's machine reports of a run: the form of its events and facts, and their total size. Pure.

A sender stores and shows these reports, and whoever controls the other machine can put anything into them. So they are
checked before they are stored: a malformed one would break every later display of the dispatch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from peer.dispatches import payload
from peer.protocol.content import MB, FileRef
from peer.protocol.documents import Document
from peer.protocol.errors import NO_FIX, Invalid, TooLarge

MAX_TRACE_BYTES: Final = 32 * MB
"""Bytes that a trace takes in a store: its signed batches, its events one by one, and the rows that hold them.

It bounds what a sender keeps of one dispatch, all attempts together, if a machine reports without end."""
MAX_REPORTED_BYTES: Final = 30 * MB
"""Where a recipient's machine stops recording and reporting a dispatch, so that its sender refuses nothing."""
WHOLE_BYTES: Final = 12 * MB
"""Up to here a trace has its texts whole, 6 MB of them, since each is stored twice. Then their ends."""
BRIEF_EVENT_BYTES: Final = 2_000
"""An event after that. There is room for five thousand of them."""
STORED_PER_EVENT: Final = 160
STORED_PER_BATCH: Final = 600
"""What the rows, indexes and ids around an event's or a batch's own bytes take; measured in the tests."""
MAX_DEPTH: Final = 32
"""Levels of nesting in an event, far below the limits of JSON parsers (Python's is about 1,000)."""


def status_event(status: str, detail: str) -> str:
    """Return the JSON of an event that this machine itself adds to a trace."""
    return msgspec.json.encode({"kind": "status", "status": status, "detail": detail}).decode()


def check_events(events: Sequence[str]) -> None:
    """Raise Invalid unless each is the JSON of an object with a kind, nested no deeper than MAX_DEPTH."""
    for event in events:
        document = _object("an event", event)
        if not isinstance(document.get("kind"), str):
            raise Invalid("an event has no kind", fix=NO_FIX)


def stored_bytes(batch: int, events: Sequence[str]) -> int:
    """Return what a batch of so many bytes takes in a store, together with its events."""
    return batch + STORED_PER_BATCH + sum(map(stored_event, events))


def stored_event(event: str) -> int:
    """Return what an event takes in a store."""
    return len(event.encode()) + STORED_PER_EVENT


def check_facts(what: str, text: str) -> None:
    """Raise Invalid unless `text` is empty or the JSON of an object; `what` names it in the error."""
    if text:
        _object(what, text)


def check_room(stored: int, more: int) -> None:
    """Raise TooLarge if `more` bytes of events would exceed MAX_TRACE_BYTES."""
    if stored + more > MAX_TRACE_BYTES:
        raise TooLarge(f"a dispatch's events have at most {MAX_TRACE_BYTES:,} bytes in all", fix=NO_FIX)


def check_returned(files: Sequence[FileRef]) -> None:
    """Raise Invalid or TooLarge unless the returned files comply with the rules for sent ones."""
    payload.check_files(files)


def too_deep(value: object) -> bool:
    """Return whether objects and arrays are nested deeper than MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _object(what: str, text: str) -> Document:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid(f"{what} is not JSON", fix=NO_FIX) from error
    if not isinstance(document, dict):
        raise Invalid(f"{what} is not a JSON object", fix=NO_FIX)
    if too_deep(document):
        raise Invalid(f"{what} is nested deeper than {MAX_DEPTH}", fix=NO_FIX)
    return document


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
