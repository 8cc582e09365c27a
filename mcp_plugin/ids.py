"""Ids of dispatches as a host gives them: whole, or a part that fits one alone. Pure, but for where ids come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from peer.dispatches.text import line
from peer.protocol.errors import Invalid, NotFound

if TYPE_CHECKING:  # the hooks use this module, and trio is slow to load
    from peer.client.on_trio import AsyncClient
    from peer.protocol.documents import Direction

WHOLE = 36
SHOWN = 8
"""Characters of a short id, the last ones: a UUIDv7 begins with its time."""
PAGE = 200
"""Of each direction so many, the newest, are looked through for a part of an id."""


def the_one(given: str, known: Iterable[str]) -> str:
    """Return the id that this is a part of. Raises NotFound, and Invalid where it fits several."""
    letters = given.replace("-", "")
    found = [identity for identity in dict.fromkeys(known) if _fits(identity.replace("-", ""), letters)]
    if not found:
        raise NotFound(
            f"there is no dispatch {line(given, limit=WHOLE)} here", fix='take the id from dispatch_read(what="inbox")'
        )
    if len(found) > 1:
        raise Invalid(
            f"{given} matches {len(found)} dispatches: {', '.join(found[:5])}", fix="give more characters of the id"
        )
    return found[0]


async def whole(client: AsyncClient, given: str) -> str:
    """Return the whole id. One that is whole is not looked up: the call that uses it reports an unknown one."""
    if len(given) == WHOLE:
        return given
    known: list[str] = []
    directions: tuple[Direction, ...] = ("received", "sent")
    for direction in directions:
        known += [row["dispatch_id"] for row in (await client.dispatches(direction, limit=PAGE))["dispatches"]]
    return the_one(given, known)


def _fits(identity: str, letters: str) -> bool:
    return identity.startswith(letters) or identity.endswith(letters) or identity[-SHOWN:].startswith(letters)
