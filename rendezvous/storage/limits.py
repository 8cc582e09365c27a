"""Bounds on what a storage keeps and returns, the same for every implementation. Those of one process: limits.py of
the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Range:
    """What an operator may set a limit to, from `least` to `most`, and what it is, in words for its table.

    `counted`: /metrics counts what it refused under its name.
    """

    least: int
    most: int
    about: str
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageLimits:
    """Counts, and times in milliseconds. Those with a Range are settings of the operator; on the others depends what
    programs and the protocol expect.

    They hold for all processes on the same data together, each of which counts in its own transaction.
    """

    open_sign_ins: Annotated[
        int,
        Range(
            100,
            1_000_000,
            "sign-ins that wait for approval; one more ends the oldest one of the network that has most",
            counted=False,
        ),
    ] = 10_000
    """Above it the oldest one of the network with the most of them makes room, so that no crowd keeps others out."""
    open_sign_ins_from_one: Annotated[
        int, Range(1, 1_000, "sign-ins of one user from one network that wait for approval")
    ] = 10
    """For one user from one address. Counted by user alone, anybody could keep somebody else from signing in."""
    wrong_codes: Annotated[int, Range(1, 20, "wrong codes on a mailed page, after which the sign-in is denied")] = 5
    """Of 34 bits of code, 20 guesses at a mailed page are one in a thousand million."""
    sign_in_mails_to_one_user: Annotated[
        int,
        Range(
            1,
            1_000,
            "mails a day for one user's sign-ins; above it no new one while the link in the last one works",
            counted=False,
        ),
    ] = 20
    """A day. Above it and the next one there is one mail in the life of a sign-in, whose page serves every sign-in of
    that user: strangers' requests can slow the mails down, and keep nobody from signing in."""
    sign_in_mails_from_one_network: Annotated[
        int,
        Range(
            1,
            1_000,
            "mails a day for one user's sign-ins that were begun from one network; above it as before",
            counted=False,
        ),
    ] = 10
    """A day, to one user."""
    invitation_mails_to_one_user: Annotated[
        int,
        Range(
            0,
            10_000,
            "mails a day with invitations to one user; above it the inviter has to share the link",
            counted=False,
        ),
    ] = 50
    """A day. In an office of 500 that begins on one day, ten invitations each, nobody gets as many."""
    invitation_mails_by_one_account: Annotated[
        int,
        Range(
            0, 10_000, "mails a day with invitations by one user; above it they have to share the link", counted=False
        ),
    ] = 50
    """A day."""
    invitation_mails_between_two: Annotated[
        int, Range(0, 100, "mails a day with invitations by one user to the same other one", counted=False)
    ] = 2
    """A day: who withdraws an invitation and makes it again does not use up what others may mail to that user."""
    kept_bytes: Annotated[
        int,
        Range(
            1024**2,
            1024**4,
            "bytes kept for one user: device set, presence, invitations and answers, in whatever state",
        ),
    ] = 16 * 1024**2
    """By one account, over everything that is kept for it in whatever state: rules.py says whose a row is. Sixteen
    devices' largest boxes are 2 MiB, an ordinary answer to somebody with two devices 10 kB for thirty days."""
    open_invitations_sent: Annotated[int, Range(1, 10_000, "open invitations by one user")] = 50
    open_invitations_received: Annotated[int, Range(1, 100_000, "open invitations to one user")] = 200
    changes_at_once: int = 25
    """Invitations that one `invitation_changes` returns; the next call continues. As many of the largest answers are
    what a client reads."""
    invitation_kept: int = 30 * DAY_MS
    """After an answer, a withdrawal or the expiry: the time an inviter's device has to collect the answer."""
    presence_kept: int = 15 * 60 * 1000
    """After an expiry or withdrawal. The highest `seq` has to outlive every signed request that could be replayed."""
    database_connections: Annotated[
        int, Range(1, 500, "connections of one process to PostgreSQL, beside the one that listens", counted=False)
    ] = 8
    """A server takes 100 by default, from all processes together."""
