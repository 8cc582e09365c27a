"""The interface of the broker's storage, in the broker's terms. No SQL; implementations: sqlite/ and postgresql/, with
the SQL that both run in sql/.

Each operation is atomic: it takes effect as a whole or, when it raises, not at all, and concurrent operations behave
as if they had run one after the other, also those of other processes on the same data. Operations take and return
values, never a callback or a cursor, so that an implementation may repeat a transaction that its database could not
serialize. Clock and randomness are arguments.

They are async because how to wait is the implementation's concern. SQLite has one writer, so more than one thread for
writes would queue on its lock; a pool of psycopg connections has a thread for each connection (psycopg's own async
connections run on asyncio only). Cancelling an operation cancels it before it starts or not at all.

Every operation raises Unavailable when the database cannot be used. Those that take a Caller or an Author raise
UnknownUser or UnknownDevice first, unless the device is in the user's current device-set; those that take an Author
then consume its nonce, or raise NonceUsed, and raise AccountFull where the author's account would have more bytes kept
than it may. An operation that is refused for another reason leaves the nonce unused.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import trio

from rendezvous.storage.rows import (
    AccountClaim,
    AccountSummary,
    Announcement,
    Author,
    Caller,
    Counts,
    InvitationAnswer,
    InvitationChanges,
    NewInvitation,
    Poll,
    PostedInvitation,
    Removed,
    SignIn,
    Standing,
    StoredInvitation,
    Usage,
)


class Storage(trio.abc.AsyncResource):
    """Accounts with their device-sets, sign-ins, presence, invitations, nonces and quotas of mail.

    Bounds are those of a StorageLimits that the implementation is made with. `now` is in milliseconds.
    """

    # -- accounts and sign-ins

    @abstractmethod
    async def open_sign_in(
        self, author: Author, claim: AccountClaim, sign_in: SignIn, *, device_code: bytes, interval: int, now: int
    ) -> None:
        """Keep a new sign-in under the SHA-256 of its device code; `interval` is the time between polls, in ms.

        The author's nonce is consumed, its membership not checked: no device is a member before its first sign-in.
        With `open_sign_ins` of them open, the oldest from the address with the most ends. Raises NonceUsed, OtherRoot,
        OldDeviceSet, TooManySignIns, and UserCodeTaken (draw another code).
        """

    @abstractmethod
    async def sign_in_by_user_code(self, user_code: str, now: int) -> SignIn | None:
        """Return the unexpired sign-in with this user code."""

    @abstractmethod
    async def sign_in_by_mail_token(self, mail_token: bytes, now: int) -> SignIn | None:
        """Return the unexpired sign-in with this mail token (its SHA-256)."""

    @abstractmethod
    async def reserve_sign_in_mail(self, user_code: str, mail_token: bytes, now: int) -> bool:
        """Count a mail that is about to be sent for a pending sign-in, and set the SHA-256 of the token in it; the one
        before it stops working. Raises NoSuchSignIn when none is pending.

        False, and nothing changes, when a daily quota (rules.sign_in_mail_quotas) is used up and a mailed page of the
        same user is still valid: that page serves this sign-in too.
        """

    @abstractmethod
    async def forget_mail_token(self, mail_token: bytes) -> None:
        """Forget the token of a mail that could not be sent."""

    @abstractmethod
    async def count_wrong_code(self, mail_token: bytes) -> bool:
        """Count a wrong code on a mailed page. True when the sign-in is no longer pending, by this code or before."""

    @abstractmethod
    async def approve_sign_in(self, user_code: str, claim: AccountClaim, now: int) -> SignIn:
        """Approve a pending sign-in and make its claim the account's, in one step; return the sign-in as it is then.

        A claim that OtherRoot or OldDeviceSet forbids denies the sign-in, with that error's sentence as the reason. A
        sign-in that was decided before is returned unchanged, and nothing is claimed. Devices that the claim leaves
        out lose their presence. A device that another user's claim lists belongs to the user whose claim has it with
        the higher counter (rules.membership_holds), and to nobody else. Raises NoSuchSignIn, AccountFull.
        """

    @abstractmethod
    async def deny_sign_in(self, user_code: str, reason: str) -> None:
        """Deny a pending sign-in; one that was decided before stays as it is."""

    @abstractmethod
    async def poll_sign_in(self, device_code: bytes, now: int) -> Poll:
        """Answer one poll of RFC 8628 section 3.5, by the SHA-256 of the device code.

        A decided sign-in is returned once and forgotten.
        """

    @abstractmethod
    async def authorize(self, author: Author) -> None:
        """Return if the device is the author's and the nonce unused, which is consumed; nothing else is kept."""

    # -- presence

    @abstractmethod
    async def announce(self, author: Author, *, seq: int, expires: int, box: bytes | None) -> None:
        """Replace the announcement of the author's device; None withdraws it. Raises OldAnnouncement unless `seq` is
        higher than before, a withdrawal's included."""

    @abstractmethod
    async def announcements(self, caller: Caller, user_id: str, now: int) -> tuple[Announcement, ...]:
        """Return the unexpired announcements of a user's current devices by device; of an unknown user, none."""

    # -- invitations

    @abstractmethod
    async def post_invitation(self, author: Author, invitation: NewInvitation, now: int) -> PostedInvitation:
        """Keep an invitation from the author's user, unless one from them to the same invitee is open already.

        The same statement again is taken as done. Raises OtherDeviceSet, InvitationIdTaken, TooManyInvitationsSent,
        TooManyInvitationsReceived. The statement kept under a token never changes.
        """

    @abstractmethod
    async def answer_invitation(self, author: Author, answer: InvitationAnswer, now: int) -> StoredInvitation:
        """Answer a pending invitation to the author's user, once; the same answer again is taken as done.

        Raises NoSuchInvitation, AlreadyAnswered, InvitationWithdrawn, InvitationExpired.
        """

    @abstractmethod
    async def withdraw_invitation(self, author: Author, token: str, now: int) -> StoredInvitation:
        """Withdraw a pending invitation of the author's user; again is taken as done.

        Raises NoSuchInvitation, AlreadyAnswered, InvitationExpired.
        """

    @abstractmethod
    async def invitation(self, caller: Caller, token: str) -> StoredInvitation:
        """Return an invitation to its inviter or its invitee. Raises NoSuchInvitation for anybody else."""

    @abstractmethod
    async def standing(self, caller: Caller, now: int) -> Standing:
        """Return the version of the caller's user, and which announcement of the caller's device is kept.

        The version is 0 at first, higher with each change to an invitation that is theirs, and at least the time of
        that change, so that it also rises where data was lost or began anew.
        """

    @abstractmethod
    async def invitation_changes(self, caller: Caller, after: int) -> InvitationChanges:
        """Return the caller's invitations that changed after a version, at most `changes_at_once` of them.

        An `after` above the current version counts as 0: the broker has lost data since.
        """

    @abstractmethod
    async def invitation_by_token(self, token: str) -> StoredInvitation | None:
        """Return an invitation to whoever has its token, as the page behind it shows it; without an answer."""

    @abstractmethod
    async def note_invitation_mail(self, token: str, now: int, *, mailed: bool) -> None:
        """Note whether the mail server took an invitation's mail: a change for its inviter alone."""

    @abstractmethod
    async def note_fetched(self, caller: Caller, tokens: Sequence[str], now: int) -> frozenset[str]:
        """Note that the caller's device fetched these invitations to its user, of those that are pending.

        Only the first time counts, and it is a change for the inviter alone. Returns the inviters that have one.
        """

    # -- quotas

    @abstractmethod
    async def reserve_invitation_mail(self, *, inviter: str, invitee: str, now: int) -> bool:
        """Count a mail that is about to be sent and return True, or return False when a daily quota is used up
        (rules.invitation_mail_quotas)."""

    # -- accounts, for the operator

    @abstractmethod
    async def accounts(self, *, after: str, most: int, now: int) -> tuple[AccountSummary, ...]:
        """Return accounts in the order of their user ids, those after `after`, at most `most` of them."""

    @abstractmethod
    async def account(self, user_id: str, now: int) -> AccountSummary | None:
        """Return one account."""

    @abstractmethod
    async def remove_account(self, user_id: str) -> Removed:
        """Delete an account with its devices, memberships and presence, its sign-ins under way, and every invitation
        from or to it, whatever its state. An address that nobody claimed may still have invitations to it.

        Left until they expire: nonces and the daily counts of mails, so that a limit is no looser afterwards.
        """

    @abstractmethod
    async def release_address(self, user_id: str, now: int) -> tuple[str, ...]:
        """Free an address for the next root key that proves it; return to whom open invitations were withdrawn.

        Devices, presence and sign-ins under way end. Open invitations *to* the address stay, for the next who proves
        it. Memberships stay: a device goes to no user who had it before. Raises NoSuchAccount.
        """

    # -- upkeep

    @abstractmethod
    async def listen(self, heard: Callable[[str | None], None]) -> None:
        """Call `heard` with a user id whenever another process changed an invitation of that user, and with None when
        such a notice may have been missed; until it is cancelled."""

    @abstractmethod
    async def check(self) -> None:
        """Return if the database answers."""

    @abstractmethod
    def usage(self) -> Usage:
        """Return how many connections to the database are in use now."""

    @abstractmethod
    async def counts(self, now: int) -> Counts:
        """Return the numbers that /metrics shows."""

    @abstractmethod
    async def purge(self, now: int) -> int:
        """Delete what is past its time, as StorageLimits says, and return how many rows. Expired rows that are not
        purged yet are never returned, except invitations."""
