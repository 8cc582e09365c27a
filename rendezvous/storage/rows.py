"""The values that storage operations take and return, frozen. No database, no HTTP.

All times are milliseconds since the epoch. A user id is an e-mail address in lower case, a device a libp2p peer id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

# -- who asks


@dataclass(frozen=True, slots=True)
class Caller:
    """A device that reads in a user's name. Whether it is one of that user's devices is checked by each operation."""

    user_id: str
    device: str


@dataclass(frozen=True, slots=True)
class Author:
    """A device that writes in a user's name, with the nonce of its signed request and the time that nonce is kept."""

    user_id: str
    device: str
    nonce: str
    nonce_expires: int


# -- accounts and sign-ins


@dataclass(frozen=True, slots=True)
class AccountClaim:
    """What a verified device-set says about its user: root public key (32 bytes), epoch, its own bytes, its devices.

    `devices` maps peer ids to the counters of their memberships.
    """

    user_id: str
    root: bytes
    epoch: int
    device_set: bytes
    devices: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Account:
    """A claimed e-mail address: root public key (32 bytes), epoch and bytes of the current device-set."""

    root: bytes
    epoch: int
    device_set: bytes


class SignInStatus(Enum):
    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A sign-in under way. `address` is where it was asked from; `reason` says why it was denied, else ""."""

    user_code: str
    user_id: str
    device: str
    device_name: str
    device_set: bytes
    address: str
    expires: int
    status: SignInStatus = SignInStatus.PENDING
    reason: str = ""


class PollOutcome(Enum):
    """The answers to a poll, RFC 8628 section 3.5; all but APPROVED are that section's error codes."""

    APPROVED = "approved"
    AUTHORIZATION_PENDING = "authorization_pending"
    SLOW_DOWN = "slow_down"
    ACCESS_DENIED = "access_denied"
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 - an error code


@dataclass(frozen=True, slots=True)
class Poll:
    """The answer to a poll; `sign_in` is None for EXPIRED_TOKEN."""

    outcome: PollOutcome
    sign_in: SignIn | None


# -- presence


@dataclass(frozen=True, slots=True)
class Announcement:
    """One device's sealed presence. `seq` grows with each announcement of the device."""

    device: str
    seq: int
    expires: int
    box: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """What the broker has of a device. `version`: of its user's invitations; `announced`: the `seq` of its unexpired
    announcement, 0 where there is none."""

    version: int
    announced: int


# -- invitations


class InvitationStatus(Enum):
    """EXPIRED is never stored: it is what a PENDING invitation becomes when its time is over."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


Decision = Literal[InvitationStatus.ACCEPTED, InvitationStatus.DECLINED]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInvitation:
    """A verified invitation by the author who posts it. `token` is the statement's id, `statement` its signed bytes,
    `device_set` the inviter's device-set that it carries."""

    token: str
    invitee: str
    statement: bytes
    device_set: bytes
    created: int
    expires: int


@dataclass(frozen=True, slots=True)
class PostedInvitation:
    """The token of the invitation that is open now; `new` is False when it was open before."""

    token: str
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationAnswer:
    """`sealed` maps devices of the inviter to boxes; `digest` is SHA-256 of the request's arguments, by which the same
    answer is recognised when it comes again."""

    token: str
    decision: Decision
    sealed: Mapping[str, bytes]
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInvitation:
    """An invitation. `answered` is the time of the answer; `sealed` the answer's box for the device that asks, if that
    is the inviter's and there is one. `mailed`: whether the mail server took its mail, None while that is not known.
    `fetched`: when a device of the invitee first fetched it."""

    token: str
    inviter: str
    invitee: str
    statement: bytes
    status: InvitationStatus
    created: int
    expires: int
    answered: int | None
    sealed: bytes | None = None
    mailed: bool | None = None
    fetched: int | None = None

    def status_at(self, now: int) -> InvitationStatus:
        """Return the status, with EXPIRED for a pending one whose time is over."""
        expired = self.status is InvitationStatus.PENDING and self.expires <= now
        return InvitationStatus.EXPIRED if expired else self.status


@dataclass(frozen=True, slots=True)
class InvitationChanges:
    """The invitations that changed for a user, oldest change first. `more`: ask again from `version`."""

    version: int
    more: bool
    sent: tuple[StoredInvitation, ...]
    received: tuple[StoredInvitation, ...]


# -- for the operator


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSummary:
    """An account. `created`: its first sign-in; `devices` maps the peer ids of its current devices to the end of their
    announcement, None where there is none; `kept_bytes` as rules.check_kept counts them."""

    user_id: str
    created: int
    devices: Mapping[str, int | None]
    kept_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was deleted: whether there was an account, and rows of each kind."""

    account: bool
    devices: int
    invitations_sent: int
    invitations_received: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    users: int
    devices: int
    devices_present: int
    invitations_open: int
    sign_ins_pending: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Connections of this process to its database: at most, in use now, and operations that wait for one."""

    connections: int
    in_use: int
    waiting: int
