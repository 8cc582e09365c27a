"""The states of an invitation as a literal transition table. Addresses and proofs: invitation_address.py. Pure."""

from typing import Final, Literal

from peer.protocol.errors import Conflict, DispatchError, Gone

State = Literal["open", "accepted", "declined", "withdrawn", "expired"]
Event = Literal["accept", "decline", "withdraw", "expire"]

LIFETIME_MS: Final = 7 * 24 * 3_600_000

LIFE: Final[dict[State, dict[Event, State]]] = {
    "open": {"accept": "accepted", "decline": "declined", "withdraw": "withdrawn", "expire": "expired"},
    "accepted": {},
    "declined": {},
    "withdrawn": {},
    "expired": {},
}


def next_state(state: State, event: Event) -> State:
    """The state after `event`. An invitation is answered once: raises Conflict (409), or Gone (410) once it expired."""
    following = LIFE[state].get(event)
    if following is not None:
        return following
    raise _closed(state)


def check_open(state: State, *, expires: int, now: int) -> None:
    """Raise Gone or Conflict unless the invitation can be answered at `now`. Times in ms since the epoch."""
    if state != "open":
        raise _closed(state)
    if now >= expires:
        raise _closed("expired")


def _closed(state: State) -> DispatchError:
    if state == "expired":
        return Gone(
            "this invitation has expired",
            fix="ask the inviter for a new one: they run `dispatch invite` with your address",
        )
    return Conflict(f"this invitation was already {state}", fix="see `dispatch contacts` and `dispatch invitations`")
