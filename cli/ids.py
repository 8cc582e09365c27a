"""Ids of dispatches as people give them: in full, or an unambiguous beginning or end. No output here."""

from __future__ import annotations

from collections.abc import Iterable

from cli.app import Source
from peer.client.blocking import Direction, Document
from peer.protocol.errors import Invalid, NotFound

FULL = 36
SHORTEST = 4
PAGE = 200
HEX = frozenset("0123456789abcdef-")


def short(identity: object) -> str:
    """Return the last 8 characters. The first ones of a UUIDv7 are its time, equal for all that arrive together."""
    return str(identity)[-8:]


def resolve(source: Source, given: str, *, directions: Iterable[Direction] = ("received", "sent")) -> str:
    """Return the full id that `given` means. Raises Invalid if it is no id or fits several, NotFound if it fits none.

    A full id is not looked up: the call that uses it reports an unknown one.
    """
    wanted = given.strip().lower()
    if len(wanted) < SHORTEST or len(wanted) > FULL or not set(wanted) <= HEX:
        raise Invalid(
            f"{given!r} is not a dispatch id",
            fix=f"give the id, or {SHORTEST} or more of its last or first characters, as `dispatch inbox` shows it",
        )
    if len(wanted) == FULL:
        return wanted
    found = {
        row["dispatch_id"]: row
        for direction in directions
        for row in all_dispatches(source, direction)
        if _fits(row["dispatch_id"], wanted)
    }
    if not found:
        raise NotFound(f"no dispatch {given!r} is known here")
    if len(found) > 1:
        named = ", ".join(f"{identity} ({row.get('peer', '?')})" for identity, row in list(found.items())[:5])
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise Invalid(f"{given!r} fits {len(found)} dispatches: {named}{more}", fix="give more of the id")
    return str(next(iter(found)))


def all_dispatches(source: Source, direction: Direction) -> Iterable[Document]:
    """Yield every dispatch that was received or sent, newest first, read page by page."""
    before: str | None = None
    while True:
        rows = source.dispatches(direction, limit=PAGE, before=before)["dispatches"]
        yield from rows
        if not rows or rows[-1]["dispatch_id"] == before:
            return
        before = rows[-1]["dispatch_id"]


def matching(wanted: str, candidates: Iterable[str]) -> list[str]:
    """Return the candidate that equals `wanted`, else those that begin or end with it."""
    known = list(dict.fromkeys(candidates))
    if wanted in known:
        return [wanted]
    return [identity for identity in known if identity.startswith(wanted) or identity.endswith(wanted)]


def _fits(identity: str, wanted: str) -> bool:
    bare, letters = identity.replace("-", ""), wanted.replace("-", "")
    return (
        identity.startswith(wanted) or identity.endswith(wanted) or bare.startswith(letters) or bare.endswith(letters)
    )
