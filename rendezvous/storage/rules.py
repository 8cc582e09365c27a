"""Decisions that every storage makes alike. Pure functions over rows; how the rows are read and kept is not here."""

from __future__ import annotations

from rendezvous.storage.errors import OldDeviceSet, OtherRoot
from rendezvous.storage.rows import Account, AccountClaim

POLL_GRACE_MS = 200
"""A client that waits exactly the interval is not slowed down for the inaccuracy of its timer."""
SLOW_DOWN_MS = 5_000
"""RFC 8628 section 3.5: `slow_down` lengthens the interval by five seconds, for this and all later polls."""


def check_claim(known: Account | None, claim: AccountClaim) -> None:
    """Raise OtherRoot when another root holds the address, OldDeviceSet for an older device-set or a fork."""
    if known is None:
        return
    if known.root != claim.root:
        raise OtherRoot(claim.user_id)
    if claim.epoch < known.epoch or (claim.epoch == known.epoch and claim.device_set != known.device_set):
        raise OldDeviceSet(claim.user_id)


def membership_holds(known: tuple[str, int] | None, user_id: str, counter: int) -> bool:
    """Whether a device is this user's by a membership with this counter, where `known` is (user id, counter) of the
    newest before: of one device the highest counter holds, whoever lists the device."""
    return known is None or counter > known[1] or (user_id == known[0] and counter == known[1])


def poll_interval(interval: int, *, next_poll: int, now: int) -> tuple[bool, int]:
    """Return whether a poll came too early, and the interval from now on. Milliseconds."""
    early = now + POLL_GRACE_MS < next_poll
    return early, interval + SLOW_DOWN_MS if early else interval
