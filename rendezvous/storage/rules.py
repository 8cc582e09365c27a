"""Decisions that every storage makes alike. Pure functions over rows; how the rows are read and kept is not here."""

from __future__ import annotations

from collections.abc import Mapping

from rendezvous.storage.errors import AccountFull, OldDeviceSet, OtherRoot
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.rows import Account, AccountClaim, SignIn

POLL_GRACE_MS = 200
"""A client that waits exactly the interval is not slowed down for the inaccuracy of its timer."""
SLOW_DOWN_MS = 5_000
"""RFC 8628 section 3.5: `slow_down` lengthens the interval by five seconds, for this and all later polls."""

ROW_BYTES = 256
"""What a row costs beside its blobs: its ids, times and index entries, rounded up."""


def sign_in_mail_quotas(sign_in: SignIn, limits: StorageLimits) -> Mapping[str, int]:
    """Return the daily quotas that a mail for a sign-in is counted under, by name. No other kind of mail is."""
    return {
        f"sign-in to {sign_in.user_id}": limits.sign_in_mails_to_one_user,
        f"sign-in to {sign_in.user_id} from {sign_in.address}": limits.sign_in_mails_from_one_network,
    }


def invitation_mail_quotas(inviter: str, invitee: str, limits: StorageLimits) -> Mapping[str, int]:
    """Return the daily quotas that a mail for an invitation is counted under, by name. No other kind of mail is."""
    return {
        f"invitation to {invitee}": limits.invitation_mails_to_one_user,
        f"invitation by {inviter}": limits.invitation_mails_by_one_account,
        f"invitation by {inviter} to {invitee}": limits.invitation_mails_between_two,
    }


def check_kept(user_id: str, *, before: int, after: int, limits: StorageLimits) -> None:
    """Raise AccountFull for a step that leaves an account with more bytes than it had and than it may have.

    An account's bytes are those of its device-set, of its devices' presence and memberships, of the invitations that it
    posted and of the answers that it gave, with ROW_BYTES for each row, whatever became of them. What makes it smaller
    is permitted above the bound as well.
    """
    if after > max(before, limits.kept_bytes):
        raise AccountFull(user_id, limits.kept_bytes)


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
