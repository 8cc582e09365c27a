"""Whether an arriving dispatch may enter the inbox: the checks, in a fixed order. Pure.

Earlier steps have checked the form and the signature, and the device against the connection and the pinned device-set.
The order is part of the protocol: the checks whose refusal reveals least to the sender come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peer.dispatches import payload
from peer.protocol import names
from peer.protocol.content import MAX_EXPIRES, MIN_EXPIRES
from peer.protocol.errors import NO_FIX, DispatchError, Forbidden, Gone, Invalid
from peer.protocol.statements import Dispatch
from peer.trust import edge_lifecycle, rates

CLOCK_SKEW_MS = 5 * 60_000
"""How far ahead of ours the sender's clock may be."""


class NotYet(DispatchError):
    """The edge is offered and its confirmation still on the way: the sender should retry the same dispatch."""

    default_code = 425


@dataclass(frozen=True, slots=True)
class EdgeFacts:
    """The stored facts of the edge that a dispatch names. `expires` in ms since the epoch, or None."""

    user_id: str
    status: edge_lifecycle.Status
    expires: int | None
    max_per_day: int
    admitted: Sequence[int]
    """When each dispatch of the last 24 hours was admitted (ms), oldest first; may be [] if below `max_per_day`."""


def check_lifetime(dispatch: Dispatch, *, now: int) -> None:
    """Raise Invalid for a dispatch from the future or with a lifetime out of bounds, Gone for an expired one."""
    if dispatch.created > now + CLOCK_SKEW_MS:
        raise Invalid(
            f"the dispatch is dated {(dispatch.created - now) // 1000} s ahead of this machine's clock",
            fix="set the clocks of both machines, then send it again",
        )
    if dispatch.expires <= now:
        raise Gone("the dispatch expired before it arrived", fix="send it again")
    lifetime = dispatch.expires - dispatch.created
    least, most = MIN_EXPIRES * 1000, MAX_EXPIRES * 1000
    if not least <= lifetime <= most:
        raise Invalid(
            f"the lifetime of a dispatch is {least // 1000} to {most // 1000} s, not {lifetime / 1000:g}",
            fix="send it with a lifetime within these bounds",
        )


def check_edge(edge: EdgeFacts | None, *, user_id: str, now: int) -> None:
    """Raise Forbidden unless the edge exists, belongs to this user and is in force; NotYet if it is still offered."""
    if edge is None or edge.user_id != user_id:
        # The same message for both, so that guessing an edge id reveals nothing.
        raise Forbidden("no trust edge permits this dispatch", fix="invite them again: `dispatch invite EMAIL`")
    status = edge_lifecycle.current(edge.status, expires=edge.expires, now=now)
    if status == "offered":
        raise NotYet("the trust edge is not confirmed yet", fix="it is sent again automatically")
    edge_lifecycle.check_admit(status, expires=None, now=now)


def admit(dispatch: Dispatch, edge: EdgeFacts | None, *, cancelled: bool, now: int) -> None:
    """Raise the first reason why this dispatch may not enter the inbox: Invalid, Gone, Forbidden, RateLimited, …

    `cancelled`: its cancellation arrived first.
    """
    check_lifetime(dispatch, now=now)
    if cancelled:
        raise Gone("its sender cancelled it before it arrived", fix=NO_FIX)
    check_edge(edge, user_id=dispatch.issuer_user, now=now)
    assert edge is not None
    rates.check_rate(edge.admitted, max_per_day=edge.max_per_day, now=now)
    payload.check_content(dispatch.content)
    payload.check_files(dispatch.content.files)
    if dispatch.content.parent:
        names.uuid_bytes(dispatch.content.parent)
