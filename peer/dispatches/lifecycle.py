"""The states of a dispatch as two literal transition tables, one for each side. Storing and sending are elsewhere.

A table maps state → event → next state; what is not listed is an error. Both sides use the same events. The
recipient decides, so its table is strict. The sender receives events late, by courier, so its table also lists
events that cross on the way:

- The sender's deadline may pass while the recipient's acceptance is in transit. The recipient checks the expiry inside
  the transaction that accepts, so an acceptance was in time and replaces `expired`.
- A cancellation may cross a result. The recipient's signed result is what happened, so `completed`, `failed` and
  `declined` replace `cancelled`; other events in transit change nothing.

Two states exist only on the recipient's side. `arriving`: stored and acknowledged, files not verified yet; it is not in
the inbox and cannot be accepted. `held`: the run has ended, and what it returned waits until the person has seen it and
sends it, or declines; at the sender the dispatch is still `running`. An interruption (the daemon stopped during a run)
leads back to `pending`, and another run needs another accept; see `deadline_after_interruption`.
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
    "held",
    "completed",
    "failed",
    "declined",
    "cancelled",
    "expired",
    "rejected",
]
Event = Literal[
    "verified",  # all files are here and match their digests: it is in the inbox
    "accepted",  # a person accepted it
    "started",  # the run began
    "interrupted",  # the daemon stopped while it was accepted or running
    "held",  # the run ended, and a person looks at what it returned before it is sent
    "completed",
    "failed",
    "declined",  # by a person: in the inbox, during the run, at an approval, or instead of sending what is held
    "cancelled",  # by either party, or by the revocation of its edge once it was accepted
    "expired",  # its deadline passed before it was accepted
    "rejected",  # the recipient's machine refused it, with a code
]
Table = dict[State, dict[Event, State]]

FINAL: Final[frozenset[State]] = frozenset({"completed", "failed", "declined", "cancelled", "expired", "rejected"})
"""States that end a dispatch. On the sender's side late events may still replace `expired` and `cancelled`."""

DISCARDED: Final[frozenset[State]] = FINAL - {"completed", "failed"}
"""Final states of a dispatch that has no reply: nobody opens its attachments any more, on either side."""

RUN_OVER: Final[frozenset[State]] = FINAL | {"held"}
"""States in which nothing more happens by itself."""

FIRST: Final = MappingProxyType[Side, State]({"sender": "queued", "recipient": "arriving"})
"""The state in which a dispatch is first stored: when signed at the sender, when acknowledged at the recipient."""

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
        "held": "held",
        "completed": "completed",
        "failed": "failed",
        "declined": "declined",
        "cancelled": "cancelled",
    },
    "held": {
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
    """The state after `event`.

    Raises Conflict (409) if the table lists none, Gone (410) if that is because the dispatch expired.
    """
    following = TABLES[side][state].get(event) if state in TABLES[side] else None
    if following is None:
        raise _nothing_pending(state, event)
    return following


def decide(side: Side, state: State, event: Event) -> State:
    """The state after a decision made on this machine, by a person or its clock. Raises as `next_state`.

    Stricter than `next_state`: in a final state every decision raises, even for events that the table lists there
    because they may arrive late from the other side.
    """
    if state in FINAL:
        raise _nothing_pending(state, event)
    return next_state(side, state, event)


def allows(side: Side, state: State, event: Event) -> bool:
    """Whether the table lists `event` in `state`."""
    return event in TABLES[side].get(state, {})


def event_of_acknowledgement(code: int) -> Event | None:
    """The event of a dispatch's final acknowledgement, at its sender; None: no event yet.

    200: it is in the inbox; 202: stored, its files still awaited; 410: it arrived too late; any other code refuses it.
    """
    if code == 200:
        return "verified"
    if 200 <= code < 300:
        return None
    return "expired" if code == 410 else "rejected"


def event_of_decision(state: State, decision: Decided) -> Event:
    """The event of the recipient's signed decision, for a dispatch that is in `state` at its sender.

    `pending` is sent when the files of a dispatch are verified, and again when its run was interrupted.
    """
    if decision == "pending":
        return "interrupted" if state in ("accepted", "running") else "verified"
    return "started" if decision == "running" else decision


def event_of_result(status: Ended, *, attempt: int) -> Event:
    """The event of a signed result. `failed` before any accept (`attempt` 0) means that the machine refused it."""
    return "rejected" if status == "failed" and not attempt else status


def deadline_after_interruption(*, now: int, lifetime: int, deadline: int, earlier_interruptions: int) -> int:
    """When a dispatch that was interrupted at `now` expires, in ms since the epoch.

    The first interruption restarts the `lifetime` that the sender gave (signed expiry minus creation, in ms). Later
    ones keep the `deadline` in force, or a machine that keeps stopping would hold a dispatch open for ever.
    """
    return now + lifetime if earlier_interruptions == 0 else deadline


def mermaid(side: Side) -> str:
    """The table as the Mermaid state diagram of docs/lifecycle.md, without events that change nothing."""
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
