"""SqlStorage: each operation as one transaction of the functions beside this module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from rendezvous.storage.errors import UnknownDevice
from rendezvous.storage.interface import Storage
from rendezvous.storage.limits import StorageLimits
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
from rendezvous.storage.rules import check_claim, check_kept, invitation_mail_quotas
from rendezvous.storage.sql import accounts, administration, invitations, presence, sign_ins, upkeep
from rendezvous.storage.sql.connection import Connection, Database, Row, Values

R = TypeVar("R")
Step = Callable[[Connection], R]


class SqlStorage(Storage):
    """A storage in a database that has the tables; its subclasses open one."""

    def __init__(self, database: Database, *, limits: StorageLimits = StorageLimits()) -> None:
        self._limits = limits
        self._database = database

    async def aclose(self) -> None:
        """Close the database; later operations raise Unavailable."""
        await self._database.aclose()

    async def listen(self, heard: Callable[[str | None], None]) -> None:
        await self._database.listen(heard)

    async def _write(self, step: Step[R]) -> R:
        return await self._database.write(step)

    async def _write_by(self, author: Author, step: Step[R]) -> R:
        def authorized(db: Connection) -> R:
            accounts.require_device(db, author)
            accounts.use_nonce(db, author)
            return self._within_quota(db, author.user_id, step)

        return await self._write(authorized)

    def _within_quota(self, db: Connection, user_id: str, step: Step[R]) -> R:
        before = accounts.kept_bytes(db, user_id)
        result = step(db)
        check_kept(user_id, before=before, after=accounts.kept_bytes(db, user_id), limits=self._limits)
        return result

    async def _read(self, step: Step[R]) -> R:
        return await self._database.read(step)

    async def _read_by(self, caller: Caller, step: Step[R]) -> R:
        def authorized(db: Connection) -> R:
            accounts.require_device(db, caller)
            return step(db)

        return await self._read(authorized)

    async def _look_up(self, caller: Caller, statement: str, values: Values) -> list[Row]:
        """Return the rows of a statement that has some for a device of its user alone; it is what most requests are
        for, so that it is one statement."""
        rows = await self._database.look_up(statement, values)
        if not rows:  # say which it is, user or device
            await self._read_by(caller, lambda _db: None)
            rows = await self._database.look_up(statement, values)  # it became one just now
        if not rows:
            raise UnknownDevice(caller.user_id)
        return rows

    # -- accounts and sign-ins

    async def open_sign_in(
        self, author: Author, claim: AccountClaim, sign_in: SignIn, *, device_code: bytes, interval: int, now: int
    ) -> None:
        def step(db: Connection) -> None:
            accounts.use_nonce(db, author)
            check_claim(accounts.account(db, claim.user_id), claim)
            sign_ins.open_one(db, sign_in, device_code=device_code, interval=interval, now=now, limits=self._limits)

        await self._write(step)

    async def sign_in_by_user_code(self, user_code: str, now: int) -> SignIn | None:
        return await self._read(lambda db: sign_ins.by_user_code(db, user_code, now))

    async def sign_in_by_mail_token(self, mail_token: bytes, now: int) -> SignIn | None:
        return await self._read(lambda db: sign_ins.by_mail_token(db, mail_token, now))

    async def reserve_sign_in_mail(self, user_code: str, mail_token: bytes, now: int) -> bool:
        return await self._write(lambda db: sign_ins.reserve_mail(db, user_code, mail_token, now, limits=self._limits))

    async def forget_mail_token(self, mail_token: bytes) -> None:
        await self._write(lambda db: sign_ins.forget_mail_token(db, mail_token))

    async def count_wrong_code(self, mail_token: bytes) -> bool:
        most = self._limits.wrong_codes
        return await self._write(lambda db: sign_ins.count_wrong_code(db, mail_token, most=most))

    async def approve_sign_in(self, user_code: str, claim: AccountClaim, now: int) -> SignIn:
        def step(db: Connection) -> SignIn:
            return self._within_quota(db, claim.user_id, lambda db: sign_ins.approve(db, user_code, claim, now))

        return await self._write(step)

    async def deny_sign_in(self, user_code: str, reason: str) -> None:
        await self._write(lambda db: sign_ins.deny(db, user_code, reason))

    async def poll_sign_in(self, device_code: bytes, now: int) -> Poll:
        return await self._write(lambda db: sign_ins.poll(db, device_code, now))

    async def authorize(self, author: Author) -> None:
        await self._write_by(author, lambda _db: None)

    # -- presence

    async def announce(self, author: Author, *, seq: int, expires: int, box: bytes | None) -> None:
        await self._write_by(author, lambda db: presence.put(db, author, seq=seq, expires=expires, box=box))

    async def announcements(self, caller: Caller, user_id: str, now: int) -> tuple[Announcement, ...]:
        values = (user_id, now, caller.user_id, caller.device)
        return presence.announcements(await self._look_up(caller, presence.OF_USER, values))

    # -- invitations

    async def post_invitation(self, author: Author, invitation: NewInvitation, now: int) -> PostedInvitation:
        def step(db: Connection) -> PostedInvitation:
            return invitations.post(db, author.user_id, invitation, now, limits=self._limits)

        return await self._write_by(author, step)

    async def answer_invitation(self, author: Author, answer: InvitationAnswer, now: int) -> StoredInvitation:
        def step(db: Connection) -> StoredInvitation:
            return invitations.answer(db, author.user_id, answer, now, limits=self._limits)

        return await self._write_by(author, step)

    async def withdraw_invitation(self, author: Author, token: str, now: int) -> StoredInvitation:
        def step(db: Connection) -> StoredInvitation:
            return invitations.withdraw(db, author.user_id, token, now, limits=self._limits)

        return await self._write_by(author, step)

    async def invitation(self, caller: Caller, token: str) -> StoredInvitation:
        return await self._read_by(caller, lambda db: invitations.one(db, caller, token))

    async def standing(self, caller: Caller, now: int) -> Standing:
        rows = await self._look_up(caller, invitations.OF_CALLER, (now, caller.user_id, caller.device))
        version, announced = rows[0]
        return Standing(int(version), int(announced))

    async def invitation_changes(self, caller: Caller, after: int) -> InvitationChanges:
        return await self._read_by(caller, lambda db: invitations.changes(db, caller, after, limits=self._limits))

    async def invitation_by_token(self, token: str) -> StoredInvitation | None:
        return await self._read(lambda db: invitations.by_token(db, token))

    async def note_invitation_mail(self, token: str, now: int, *, mailed: bool) -> None:
        await self._write(lambda db: invitations.note_mail(db, token, now, mailed=mailed))

    async def note_fetched(self, caller: Caller, tokens: Sequence[str], now: int) -> frozenset[str]:
        def step(db: Connection) -> frozenset[str]:
            accounts.require_device(db, caller)
            return invitations.note_fetched(db, caller.user_id, tokens, now)

        return await self._write(step)

    # -- quotas

    async def reserve_invitation_mail(self, *, inviter: str, invitee: str, now: int) -> bool:
        quotas = invitation_mail_quotas(inviter, invitee, self._limits)
        return await self._write(lambda db: accounts.count_mail(db, quotas, now))

    # -- accounts, for the operator

    async def accounts(self, *, after: str, most: int, now: int) -> tuple[AccountSummary, ...]:
        return await self._read(lambda db: administration.summaries(db, after=after, most=most, now=now))

    async def account(self, user_id: str, now: int) -> AccountSummary | None:
        return await self._read(lambda db: administration.summary(db, user_id, now))

    async def remove_account(self, user_id: str) -> Removed:
        return await self._write(lambda db: administration.remove(db, user_id))

    async def release_address(self, user_id: str, now: int) -> tuple[str, ...]:
        return await self._write(lambda db: administration.release(db, user_id, now, limits=self._limits))

    # -- upkeep

    async def check(self) -> None:
        await self._read(lambda db: db.execute("SELECT 1").fetchone())

    def usage(self) -> Usage:
        return self._database.usage()

    async def counts(self, now: int) -> Counts:
        return await self._read(lambda db: upkeep.counts(db, now))

    async def purge(self, now: int) -> int:
        return await self._database.write(lambda db: upkeep.purge(db, now, limits=self._limits), isolated=False)
