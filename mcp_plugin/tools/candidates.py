"""Whom an unknown name may mean: the contacts that resemble it, else those that there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mcp_plugin.error_documents import DetailedError
from peer.client.on_trio import AsyncClient
from peer.dispatches.text import line
from peer.protocol.errors import DispatchError, Invalid, NotFound

MAX_CANDIDATES = 10


async def unknown(client: AsyncClient, name: str, error: DispatchError, *, direction: str) -> Exception:
    """Return the error for a name that is neither an address nor an alias, with the contacts that it may mean.

    `direction`: outgoing, whom I may send to; incoming, who may send to me. With no such contact, the error as it is.
    """
    rows = (await client.contacts())["trust"]
    known = {row["peer"]: row.get("alias") or "" for row in rows if row["direction"] == direction}
    alike = sorted(peer for peer, alias in known.items() if _resembles(name, (peer, alias)))
    meant = (alike or sorted(known))[:MAX_CANDIDATES]
    if not meant:
        return error
    shown = ", ".join(f"{line(peer)} ({line(known[peer])})" if known[peer] else line(peer) for peer in meant)
    more = f", and {len(alike or known) - len(meant)} more" if len(alike or known) > len(meant) else ""
    fix = "ask which one is meant, then give the e-mail address"
    named = line(name, limit=80)
    if alike:
        return DetailedError(Invalid(f"{named!r} may mean {shown}{more}", fix=fix), candidates=meant)
    said = f"no contact is called {named!r}; there are {shown}{more}"
    return DetailedError(NotFound(said, fix=fix), candidates=meant)


def _resembles(name: str, known: Iterable[str]) -> bool:
    folded = name.casefold()
    for each in known:
        other = each.casefold()
        near = difflib.SequenceMatcher(None, folded, other.partition("@")[0]).ratio() >= 0.75
        if other and (folded in other or near):
            return True
    return False
