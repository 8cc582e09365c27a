"""The life of a dispatch as two literal tables, one for each side. Storing a state and telling of it are not here.

A table reads state → event → next state; what is not listed is an error. Both sides name the same events, but
know them differently. The recipient decides and its table is strict: what it holds is what happened. The sender
learns by courier, late, and its table also lists what can cross on the way:

- The sender's own deadline may pass while the recipient's acceptance is still in transit. An acceptance is only
  made before expiry (the recipient checks it inside its transaction), so `expired` gives way to it.
- A cancellation may cross a result. The run did end as the recipient's signed result says, so `cancelled` gives way
  to `completed`, `failed` and `declined`; everything else that was in transit changes nothing.

`arriving` is known to the recipient alone: stored and acknowledged, its files not verified yet. It is in nobody's
inbox and can be accepted by nobody. An interruption (the daemon stopped mid-run) leads back to `pending`, and a run
needs a new accept; see `deadline_after_interruption`.
"""

from types import MappingProxyType
from typing import Final, Literal, get_args

from peer.protocol.errors import Conflict, DispatchError, Gone
from peer.protocol.outcomes import Decided, Ended

Side = Literal["sender", "recipient"]
State = Literal[
    "queued",
    "arriving",
    "pending",
    "accepted",
    "running",
    "completed",
    "failed",
    "declined",
    "cancelled",
    "expired",
    "rejected",
]
Event = Literal[
    "verified",  # files are here and their digests hold: it is in the inbox
    "accepted",  # a person accepted it
    "started",  # the run began
    "interrupted",  # the daemon stopped while it was accepted or running
    "completed",
    "failed",
    "declined",  # by a person: in the inbox, while it ran, or at an approval
    "cancelled",  # by either party, or by the revocation of its edge once it was accepted
    "expired",  # its time passed before it was accepted
    "rejected",  # the recipient's machine refused it, with a code
]
Table = dict[State, dict[Event, State]]

FINAL: Final[frozenset[State]] = frozenset({"completed", "failed", "declined", "cancelled", "expired", "rejected"})
"""States that end a dispatch. On the sender's side `expired` and `cancelled` may still give way, as said above."""

FIRST: Final = MappingProxyType[Side, State]({"sender": "queued", "recipient": "arriving"})
"""The state a dispatch is stored in at first: signed at the sender, acknowledged at the recipient."""

SENDER: Final[Table] = {
    "queued": {
        "verified": "pending",
        "accepted": "accepted",
        "declined": "declined",
        "cancelled": "cancelled",
        "expired": "expired",
        "rejected": "rejected",
    },
    "pending": {
        "verified": "pending",
        "accepted": "accepted",
        "declined": "declined",
        "cancelled": "cancelled",
        "expired": "expired",
        "rejected": "rejected",
    },
    "accepted": {
        "started": "running",
        "interrupted": "pending",
        "completed": "completed",
        "failed": "failed",
        "declined": "declined",
        "cancelled": "cancelled",
    },
    "running": {
        "started": "running",
        "interrupted": "pending",
        "completed": "completed",
        "failed": "failed",
        "declined": "declined",
        "cancelled": "cancelled",
    },
    "completed": {},
    "failed": {},
    "declined": {},
    "cancelled": {
        "verified": "cancelled",
        "accepted": "cancelled",
        "started": "cancelled",
        "interrupted": "cancelled",
        "completed": "completed",
        "failed": "failed",
        "declined": "declined",
        "cancelled": "cancelled",
        "expired": "cancelled",
        "rejected": "cancelled",
    },
    "expired": {
        "verified": "expired",
        "accepted": "accepted",
        "declined": "declined",
        "cancelled": "cancelled",
        "expired": "expired",
        "rejected": "rejected",
    },
    "rejected": {},
}

RECIPIENT: Final[Table] = {
    "arriving": {
        "verified": "pending",
        "cancelled": "cancelled",
        "expired": "expired",
        "rejected": "rejected",
    },
    "pending": {
        "accepted": "accepted",
        "declined": "declined",
        "cancelled": "cancelled",
        "expired": "expired",
        "rejected": "rejected",
    },
    "accepted": {
        "started": "running",
        "interrupted": "pending",
        "failed": "failed",
        "declined": "declined",
        "cancelled": "cancelled",
    },
    "running": {
        "interrupted": "pending",
        "completed": "completed",
        "failed": "failed",
        "declined": "declined",
        "cancelled": "cancelled",
    },
    "completed": {},
    "failed": {},
    "declined": {},
    "cancelled": {},
    "expired": {},
    "rejected": {},
}

TABLES: Final = MappingProxyType[Side, Table]({"sender": SENDER, "recipient": RECIPIENT})

_FIX: Final = "look at `dispatch inbox` or `dispatch sent` for what is open now"


def next_state(side: Side, state: State, event: Event) -> State:
    """The state that `event` leads to.

    Raises Conflict (409) where the table lists nothing, Gone (410) if that is because the dispatch expired.
    """
    following = TABLES[side][state].get(event) if state in TABLES[side] else None
    if following is None:
        raise _nothing_pending(state, event)
    return following


def decide(side: Side, state: State, event: Event) -> State:
    """The state that a decision made here, by a person or this machine's clock, leads to. Raises as `next_state`.

    Stricter than it: a final state takes no decision, whatever late news from the other side it would still take.
    """
    if state in FINAL:
        raise _nothing_pending(state, event)
    return next_state(side, state, event)


def allows(side: Side, state: State, event: Event) -> bool:
    """Whether the table lists `event` in `state`."""
    return event in TABLES[side].get(state, {})


def event_of_acknowledgement(code: int) -> Event | None:
    """What the other machine's final answer to a dispatch means for it at its sender; None: nothing yet.

    200 it is in the inbox; 202 stored, its files still awaited; 410 it came too late; all else refuses it.
    """
    if code == 200:
        return "verified"
    if 200 <= code < 300:
        return None
    return "expired" if code == 410 else "rejected"


def event_of_decision(state: State, decision: Decided) -> Event:
    """What a signed decision of the recipient's means for a dispatch that is in `state` at its sender.

    `pending` is said when the files of a dispatch are verified, and again when its run was interrupted.
    """
    if decision == "pending":
        return "interrupted" if state in ("accepted", "running") else "verified"
    return "started" if decision == "running" else decision


def event_of_result(status: Ended, *, attempt: int) -> Event:
    """What a signed result means: one that failed before any accept (`attempt` 0) was refused by the machine."""
    return "rejected" if status == "failed" and not attempt else status


def deadline_after_interruption(*, now: int, lifetime: int, deadline: int, earlier_interruptions: int) -> int:
    """When a dispatch that was interrupted at `now` expires, in ms since the epoch.

    The first interruption starts the `lifetime` that the sender gave it (signed expiry less creation, in ms) anew. A
    later one does not, or a machine that keeps stopping would hold a dispatch open for ever: the `deadline` in force
    stays.
    """
    return now + lifetime if earlier_interruptions == 0 else deadline


def mermaid(side: Side) -> str:
    """The table as a Mermaid state diagram, as docs/lifecycle.md shows it; events that change nothing left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {FIRST[side]}"]
    for state, row in TABLES[side].items():
        lines += [f"    {state} --> {after}: {event}" for event, after in row.items() if after != state]
    lines += [f"    {state} --> [*]" for state in get_args(State) if state in FINAL]
    return "\n".join(lines) + "\n"


def _nothing_pending(state: State, event: Event) -> DispatchError:
    if state == "expired":
        return Gone("nothing pending: this dispatch expired before it was accepted", fix=_FIX)
    if state == "arriving":
        return Conflict("nothing pending: the files of this dispatch have not all arrived yet", fix=_FIX)
    if state in FINAL:
        return Conflict(f"nothing pending: this dispatch is already {state}", fix=_FIX)
    return Conflict(f"nothing pending: a dispatch that is {state} cannot be {event}", fix=_FIX)
