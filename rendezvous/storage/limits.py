"""Bounds on what a storage keeps and returns, the same for every implementation. Rates of requests: ratelimit.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageLimits:
    """Counts, and times in milliseconds."""

    open_sign_ins: int = 10_000
    """Above it the oldest one of the network with the most of them makes room, so that no crowd keeps others out."""
    open_sign_ins_from_one: int = 10
    """For one user from one address. Counted by user alone, anybody could keep somebody else from signing in."""
    wrong_codes: int = 5
    """Wrong codes on the page of one mail, after which the sign-in is denied."""
    sign_in_mails_to_one_user: int = 20
    """A day. Above it and the next one there is one mail in the life of a sign-in, whose page serves every sign-in of
    that user: strangers' requests can slow the mails down, and keep nobody from signing in."""
    sign_in_mails_from_one_network: int = 10
    """A day, to one user."""
    invitation_mails_to_one_user: int = 20
    """A day."""
    invitation_mails_by_one_account: int = 50
    """A day."""
    invitation_mails_between_two: int = 2
    """A day: who withdraws an invitation and makes it again does not use up what others may mail to that user."""
    kept_bytes: int = 16 * 1024 * 1024
    """By one account, over everything that is kept for it in whatever state: rules.py says whose a row is. Sixteen
    devices' largest boxes are 2 MiB, an ordinary answer to somebody with two devices 10 kB for thirty days."""
    open_invitations_sent: int = 50
    open_invitations_received: int = 200
    changes_at_once: int = 25
    """Invitations that one `invitation_changes` returns; the next call continues."""
    invitation_kept: int = 30 * DAY_MS
    """After an answer, a withdrawal or the expiry: the time an inviter's device has to collect the answer."""
    presence_kept: int = 15 * 60 * 1000
    """After an expiry or withdrawal. The highest `seq` has to outlive every signed request that could be replayed."""
