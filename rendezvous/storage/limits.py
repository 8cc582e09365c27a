"""Bounds on what a storage keeps and returns, the same for every implementation. Rates of requests: ratelimit.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageLimits:
    """Counts, and times in milliseconds."""

    open_sign_ins: int = 10_000
    open_sign_ins_from_one: int = 10
    """For one user from one address. Counted by user alone, anybody could keep somebody else from signing in."""
    wrong_codes: int = 5
    """Wrong codes on the page of one mail, after which the sign-in is denied."""
    mails_to_one_address: int = 20
    """A day, sign-ins and invitations together, so that a broker cannot be used to flood a mailbox."""
    open_invitations_sent: int = 50
    open_invitations_received: int = 200
    changes_at_once: int = 25
    """Invitations that one `invitation_changes` returns; the next call continues."""
    invitation_kept: int = 30 * DAY_MS
    """After an answer, a withdrawal or the expiry: the time an inviter's device has to collect the answer."""
    presence_kept: int = 15 * 60 * 1000
    """After an expiry or withdrawal. The highest `seq` has to outlive every signed request that could be replayed."""
