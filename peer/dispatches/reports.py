"""What a recipient's machine may report of a run: the form of its events and facts, and how much of them. Pure.

A sender stores and shows what another machine says of a run. Whoever holds that machine writes it as they please, so
everything is checked before it is stored: what is not of its form here would break every later look at the dispatch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from peer.dispatches import payload
from peer.protocol.content import MB, FileRef
from peer.protocol.documents import Document
from peer.protocol.errors import Invalid, TooLarge

MAX_TRACE_BYTES: Final = 32 * MB
"""Signed event batches that a sender keeps of one dispatch, all attempts together. A long run (600 calls with
50 kB each) stays under it; a machine that reports without end fills no more of its sender's disk than this, and the
whole trace fits into one document of the loopback API (64 MB)."""
MAX_REPORTED_BYTES: Final = 30 * MB
"""What a recipient's machine reports of one dispatch at most, so that it never meets the limit above."""
MAX_DEPTH: Final = 32
"""Nesting of an event. Every reader of JSON has a bound of its own (Python's about 1,000): this is far under them."""


def check_events(events: Sequence[str]) -> None:
    """Raise Invalid unless each is the JSON of an object with a kind, nested no deeper than MAX_DEPTH."""
    for event in events:
        document = _object("an event", event)
        if not isinstance(document.get("kind"), str):
            raise Invalid("an event has no kind", fix="")


def check_facts(what: str, text: str) -> None:
    """Raise Invalid unless `text` is empty or the JSON of an object; `what` names it in the error."""
    if text:
        _object(what, text)


def check_room(stored: int, more: int) -> None:
    """Raise TooLarge when `more` bytes of events would pass what is kept of a dispatch."""
    if stored + more > MAX_TRACE_BYTES:
        raise TooLarge(f"a dispatch's events have at most {MAX_TRACE_BYTES:,} bytes in all", fix="")


def check_returned(files: Sequence[FileRef]) -> None:
    """Raise Invalid or TooLarge unless the returned files keep the rules of sent ones."""
    payload.check_files(files)


def too_deep(value: object) -> bool:
    """Say whether objects and arrays are nested deeper than MAX_DEPTH."""
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
        raise Invalid(f"{what} is not JSON", fix="") from error
    if not isinstance(document, dict):
        raise Invalid(f"{what} is not a JSON object", fix="")
    if too_deep(document):
        raise Invalid(f"{what} is nested deeper than {MAX_DEPTH}", fix="")
    return document


def _inside(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
