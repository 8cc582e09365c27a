"""A second implementation of the storage, in memory: the oracle that the SQLite one is compared with.

It is written without a thought of speed: an operation works on a copy of everything, which replaces the original when
the operation returns. So atomicity needs no care here, and what is left is the meaning of each operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TypeVar

import trio

from peer.protocol.errors import Conflict, Unavailable
from rendezvous.storage import errors
from rendezvous.storage.interface import Storage
from rendezvous.storage.limits import DAY_MS, StorageLimits
from rendezvous.storage.rows import (
    Account,
    AccountClaim,
    AccountSummary,
    Announcement,
    Author,
    Caller,
    Counts,
    InvitationAnswer,
    InvitationChanges,
    InvitationStatus,
    NewInvitation,
    Poll,
    PostedInvitation,
    Removed,
    SignIn,
    SignInStatus,
    Standing,
    StoredInvitation,
    Usage,
)
from rendezvous.storage.rows import PollOutcome as Outcome
from rendezvous.storage.rules import (
    ROW_BYTES,
    check_claim,
    check_kept,
    invitation_mail_quotas,
    membership_holds,
    poll_interval,
    sign_in_mail_quotas,
)

R = TypeVar("R")


@dataclass
class OpenSignIn:
    row: SignIn
    interval: int
    next_poll: int
    created: int
    mail_token: bytes | None = None
    wrong_codes: int = 0


@dataclass
class Invited:
    row: StoredInvitation
    inviter_version: int
    invitee_version: int
    purge_after: int
    digest: bytes | None = None
    sealed: dict[str, bytes] = field(default_factory=dict)


@dataclass
class State:
    accounts: dict[str, Account] = field(default_factory=dict)
    created: dict[str, int] = field(default_factory=dict)
    devices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    memberships: dict[str, tuple[str, int]] = field(default_factory=dict)
    nonces: dict[tuple[str, str], int] = field(default_factory=dict)
    sign_ins: dict[bytes, OpenSignIn] = field(default_factory=dict)
    presence: dict[tuple[str, str], tuple[int, int, bytes | None]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    invitations: dict[str, Invited] = field(default_factory=dict)
    mails: list[tuple[str, int]] = field(default_factory=list)

    def count_mail(self, quotas: Mapping[str, int], now: int) -> bool:
        today = [name for name, at in self.mails if at > now - DAY_MS]
        if any(today.count(name) >= most for name, most in quotas.items()):
            return False
        self.mails += [(name, now) for name in quotas]
        return True

    def kept_bytes(self, user_id: str) -> int:
        mine = self.accounts.get(user_id)
        rows = [len(mine.device_set)] if mine else []
        rows += [len(box or b"") for (user, _), (_, _, box) in self.presence.items() if user == user_id]
        rows += [0 for user, _ in self.memberships.values() if user == user_id]
        for invited in self.invitations.values():
            if invited.row.inviter == user_id:
                rows.append(len(invited.row.statement))
            if invited.row.invitee == user_id:
                rows += [len(box) for box in invited.sealed.values()]
        return sum(rows) + ROW_BYTES * len(rows)

    def require(self, who: Caller | Author) -> None:
        if who.user_id not in self.accounts:
            raise errors.UnknownUser(who.user_id)
        if who.device not in self.devices[who.user_id]:
            raise errors.UnknownDevice(who.user_id)

    def use_nonce(self, by: Author) -> None:
        if (by.device, by.nonce) in self.nonces:
            raise errors.NonceUsed
        self.nonces[by.device, by.nonce] = by.nonce_expires

    def next_version(self, user_id: str, now: int) -> int:
        self.versions[user_id] = max(self.versions.get(user_id, 0) + 1, now)
        return self.versions[user_id]

    def touch(self, invited: Invited, now: int) -> None:
        invited.inviter_version = self.next_version(invited.row.inviter, now)
        invited.invitee_version = self.next_version(invited.row.invitee, now)

    def touch_inviter(self, invited: Invited, now: int) -> None:
        invited.inviter_version = self.next_version(invited.row.inviter, now)

    def summary(self, user_id: str, now: int) -> AccountSummary:
        until = {
            device: expires
            for (user, device), (_, expires, box) in self.presence.items()
            if user == user_id and box is not None and expires > now
        }
        return AccountSummary(
            user_id=user_id,
            created=self.created[user_id],
            devices={device: until.get(device) for device in sorted(self.devices[user_id])},
            kept_bytes=self.kept_bytes(user_id),
        )

    def end_account(self, user_id: str) -> None:
        for rows in (self.accounts, self.created, self.devices):
            rows.pop(user_id, None)
        self.sign_ins = {code: one for code, one in self.sign_ins.items() if one.row.user_id != user_id}
        self.presence = {key: row for key, row in self.presence.items() if key[0] != user_id}

    def pending(self, user_code: str) -> OpenSignIn | None:
        found = (s for s in self.sign_ins.values() if s.row.user_code == user_code)
        return next((s for s in found if s.row.status is SignInStatus.PENDING), None)


class MemoryStorage(Storage):
    def __init__(self, *, limits: StorageLimits = StorageLimits()) -> None:
        self._limits = limits
        self._state = State()
        self._closed = False

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()

    async def _run(self, step: Callable[[State], R], who: Caller | Author | None = None, *, user: str = "") -> R:
        """Run a step that `who` asks for, or one that changes what is kept for `user`."""
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise Unavailable("the storage is closed", fix="try again")
        copy = deepcopy(self._state)
        if who is not None:
            copy.require(who)
        if isinstance(who, Author):
            copy.use_nonce(who)
            user = who.user_id
        before = copy.kept_bytes(user) if user else 0
        result = step(copy)
        if user:
            check_kept(user, before=before, after=copy.kept_bytes(user), limits=self._limits)
        self._state = copy
        return result

    # -- accounts and sign-ins

    async def open_sign_in(
        self, author: Author, claim: AccountClaim, sign_in: SignIn, *, device_code: bytes, interval: int, now: int
    ) -> None:
        def step(state: State) -> None:
            state.use_nonce(author)
            check_claim(state.accounts.get(claim.user_id), claim)
            waiting = [s.row for s in state.sign_ins.values() if s.row.expires > now]
            from_one = [s for s in waiting if (s.user_id, s.address) == (sign_in.user_id, sign_in.address)]
            if len(from_one) >= self._limits.open_sign_ins_from_one:
                raise errors.TooManySignIns
            if len(waiting) >= self._limits.open_sign_ins:
                state.sign_ins = {code: s for code, s in state.sign_ins.items() if s.row.expires > now}
                by_address: dict[str, list[tuple[int, bytes]]] = {}
                for code, s in state.sign_ins.items():
                    by_address.setdefault(s.row.address, []).append((s.created, code))
                greediest = min((-len(of), min(of)[0], address) for address, of in by_address.items())[2]
                del state.sign_ins[min(by_address[greediest])[1]]
            if any(s.row.user_code == sign_in.user_code for s in state.sign_ins.values()):
                raise errors.UserCodeTaken
            state.sign_ins[device_code] = OpenSignIn(sign_in, interval, next_poll=now, created=now)

        await self._run(step)

    async def sign_in_by_user_code(self, user_code: str, now: int) -> SignIn | None:
        def step(state: State) -> SignIn | None:
            rows = (s.row for s in state.sign_ins.values())
            return next((row for row in rows if row.user_code == user_code and row.expires > now), None)

        return await self._run(step)

    async def sign_in_by_mail_token(self, mail_token: bytes, now: int) -> SignIn | None:
        def step(state: State) -> SignIn | None:
            found = (s.row for s in state.sign_ins.values() if s.mail_token == mail_token)
            return next((row for row in found if row.expires > now), None)

        return await self._run(step)

    async def reserve_sign_in_mail(self, user_code: str, mail_token: bytes, now: int) -> bool:
        def step(state: State) -> bool:
            one = state.pending(user_code)
            if one is None or one.row.expires <= now:
                raise errors.NoSuchSignIn
            if not state.count_mail(sign_in_mail_quotas(one.row, self._limits), now):
                for other in state.sign_ins.values():
                    same = other.row.user_id == one.row.user_id and other.row.status is SignInStatus.PENDING
                    if same and other.mail_token is not None and other.row.expires > now:
                        return False
            one.mail_token = mail_token
            return True

        return await self._run(step)

    async def forget_mail_token(self, mail_token: bytes) -> None:
        def step(state: State) -> None:
            for one in state.sign_ins.values():
                if one.mail_token == mail_token:
                    one.mail_token = None

        await self._run(step)

    async def count_wrong_code(self, mail_token: bytes) -> bool:
        def step(state: State) -> bool:
            for one in state.sign_ins.values():
                if one.mail_token == mail_token and one.row.status is SignInStatus.PENDING:
                    one.wrong_codes += 1
                    if one.wrong_codes < self._limits.wrong_codes:
                        return False
                    one.row = replace(one.row, status=SignInStatus.DENIED, reason="the code was mistyped too often")
            return True

        return await self._run(step)

    async def approve_sign_in(self, user_code: str, claim: AccountClaim, now: int) -> SignIn:
        def step(state: State) -> SignIn:
            one = next((s for s in state.sign_ins.values() if s.row.user_code == user_code), None)
            if one is None or one.row.expires <= now:
                raise errors.NoSuchSignIn
            if one.row.status is SignInStatus.PENDING:
                try:
                    check_claim(state.accounts.get(claim.user_id), claim)
                except Conflict as refusal:
                    one.row = replace(one.row, status=SignInStatus.DENIED, reason=refusal.message)
                else:
                    one.row = replace(one.row, status=SignInStatus.APPROVED)
                    user = claim.user_id
                    state.created.setdefault(user, now)
                    state.accounts[user] = Account(claim.root, claim.epoch, claim.device_set)
                    mine = [d for d, n in claim.devices.items() if membership_holds(state.memberships.get(d), user, n)]
                    state.memberships |= {device: (user, claim.devices[device]) for device in mine}
                    for other, devices in state.devices.items():
                        state.devices[other] = tuple(device for device in devices if device not in mine)
                    state.devices[user] = tuple(mine)
                    for owner, device in list(state.presence):
                        if (device in mine) != (owner == user) and (owner == user or device in mine):
                            del state.presence[owner, device]
            return one.row

        return await self._run(step, user=claim.user_id)

    async def deny_sign_in(self, user_code: str, reason: str) -> None:
        def step(state: State) -> None:
            if one := state.pending(user_code):
                one.row = replace(one.row, status=SignInStatus.DENIED, reason=reason)

        await self._run(step)

    async def poll_sign_in(self, device_code: bytes, now: int) -> Poll:
        def step(state: State) -> Poll:
            one = state.sign_ins.get(device_code)
            if one is None or one.row.expires <= now:
                return Poll(Outcome.EXPIRED_TOKEN, None)
            if one.row.status is not SignInStatus.PENDING:
                del state.sign_ins[device_code]
                approved = one.row.status is SignInStatus.APPROVED
                return Poll(Outcome.APPROVED if approved else Outcome.ACCESS_DENIED, one.row)
            early, one.interval = poll_interval(one.interval, next_poll=one.next_poll, now=now)
            one.next_poll = now + one.interval
            return Poll(Outcome.SLOW_DOWN if early else Outcome.AUTHORIZATION_PENDING, one.row)

        return await self._run(step)

    async def authorize(self, author: Author) -> None:
        await self._run(lambda _state: None, author)

    # -- presence

    async def announce(self, author: Author, *, seq: int, expires: int, box: bytes | None) -> None:
        def step(state: State) -> None:
            key = author.user_id, author.device
            if key in state.presence and state.presence[key][0] >= seq:
                raise errors.OldAnnouncement
            state.presence[key] = seq, expires, box

        await self._run(step, author)

    async def announcements(self, caller: Caller, user_id: str, now: int) -> tuple[Announcement, ...]:
        def step(state: State) -> tuple[Announcement, ...]:
            return tuple(
                Announcement(device, seq, expires, box)
                for (user, device), (seq, expires, box) in sorted(state.presence.items())
                if user == user_id and device in state.devices[user] and expires > now and box is not None
            )

        return await self._run(step, caller)

    # -- invitations

    async def post_invitation(self, author: Author, invitation: NewInvitation, now: int) -> PostedInvitation:
        def step(state: State) -> PostedInvitation:
            inviter, invitee = author.user_id, invitation.invitee
            if state.accounts[inviter].device_set != invitation.device_set:
                raise errors.OtherDeviceSet
            if known := state.invitations.get(invitation.token):
                if known.row.statement != invitation.statement:
                    raise errors.InvitationIdTaken
                return PostedInvitation(invitation.token, new=False)
            pending = [i.row for i in state.invitations.values()]
            pending = [row for row in pending if row.status_at(now) is InvitationStatus.PENDING]
            for row in pending:
                if (row.inviter, row.invitee) == (inviter, invitee):
                    return PostedInvitation(row.token, new=False)
            if len([row for row in pending if row.inviter == inviter]) >= self._limits.open_invitations_sent:
                raise errors.TooManyInvitationsSent(self._limits.open_invitations_sent)
            if len([row for row in pending if row.invitee == invitee]) >= self._limits.open_invitations_received:
                raise errors.TooManyInvitationsReceived(invitee)
            new = StoredInvitation(
                token=invitation.token,
                inviter=inviter,
                invitee=invitee,
                statement=invitation.statement,
                status=InvitationStatus.PENDING,
                created=invitation.created,
                expires=invitation.expires,
                answered=None,
            )
            invited = Invited(new, 0, 0, purge_after=invitation.expires + self._limits.invitation_kept)
            state.touch(invited, now)
            state.invitations[new.token] = invited
            return PostedInvitation(new.token, new=True)

        return await self._run(step, author)

    async def answer_invitation(self, author: Author, answer: InvitationAnswer, now: int) -> StoredInvitation:
        def step(state: State) -> StoredInvitation:
            invited = state.invitations.get(answer.token)
            if invited is None or invited.row.invitee != author.user_id:
                raise errors.NoSuchInvitation
            match invited.row.status_at(now):
                case InvitationStatus.WITHDRAWN:
                    raise errors.InvitationWithdrawn
                case InvitationStatus.EXPIRED:
                    raise errors.InvitationExpired
                case InvitationStatus.ACCEPTED | InvitationStatus.DECLINED if invited.digest != answer.digest:
                    raise errors.AlreadyAnswered
                case InvitationStatus.PENDING:
                    invited.row = replace(invited.row, status=answer.decision, answered=now)
                    invited.digest, invited.sealed = answer.digest, dict(answer.sealed)
                    invited.purge_after = now + self._limits.invitation_kept
                    state.touch(invited, now)
            return invited.row

        return await self._run(step, author)

    async def withdraw_invitation(self, author: Author, token: str, now: int) -> StoredInvitation:
        def step(state: State) -> StoredInvitation:
            invited = state.invitations.get(token)
            if invited is None or invited.row.inviter != author.user_id:
                raise errors.NoSuchInvitation
            match invited.row.status_at(now):
                case InvitationStatus.ACCEPTED | InvitationStatus.DECLINED:
                    raise errors.AlreadyAnswered
                case InvitationStatus.EXPIRED:
                    raise errors.InvitationExpired
                case InvitationStatus.PENDING:
                    invited.row = replace(invited.row, status=InvitationStatus.WITHDRAWN)
                    invited.purge_after = now + self._limits.invitation_kept
                    state.touch(invited, now)
            return invited.row

        return await self._run(step, author)

    async def invitation(self, caller: Caller, token: str) -> StoredInvitation:
        def step(state: State) -> StoredInvitation:
            invited = state.invitations.get(token)
            if invited is None or caller.user_id not in (invited.row.inviter, invited.row.invitee):
                raise errors.NoSuchInvitation
            return _as_seen_by(caller, invited)

        return await self._run(step, caller)

    async def standing(self, caller: Caller, now: int) -> Standing:
        def step(state: State) -> Standing:
            seq, expires, box = state.presence.get((caller.user_id, caller.device), (0, 0, None))
            there = box is not None and expires > now
            return Standing(state.versions.get(caller.user_id, 0), seq if there else 0)

        return await self._run(step, caller)

    async def invitation_changes(self, caller: Caller, after: int) -> InvitationChanges:
        def step(state: State) -> InvitationChanges:
            current = state.versions.get(caller.user_id, 0)
            start = after if after <= current else 0
            changed = []
            for invited in state.invitations.values():
                for user, version in (
                    (invited.row.inviter, invited.inviter_version),
                    (invited.row.invitee, invited.invitee_version),
                ):
                    if user == caller.user_id and version > start:
                        changed.append((version, _as_seen_by(caller, invited)))
            changed.sort(key=lambda pair: pair[0])
            more = len(changed) > self._limits.changes_at_once
            changed = changed[: self._limits.changes_at_once]
            return InvitationChanges(
                version=changed[-1][0] if more else current,
                more=more,
                sent=tuple(row for _, row in changed if row.inviter == caller.user_id),
                received=tuple(row for _, row in changed if row.inviter != caller.user_id),
            )

        return await self._run(step, caller)

    async def invitation_by_token(self, token: str) -> StoredInvitation | None:
        def step(state: State) -> StoredInvitation | None:
            invited = state.invitations.get(token)
            return None if invited is None else replace(invited.row, sealed=None)

        return await self._run(step)

    async def note_invitation_mail(self, token: str, now: int, *, mailed: bool) -> None:
        def step(state: State) -> None:
            if invited := state.invitations.get(token):
                invited.row = replace(invited.row, mailed=mailed)
                state.touch_inviter(invited, now)

        await self._run(step)

    async def note_fetched(self, caller: Caller, tokens: Sequence[str], now: int) -> frozenset[str]:
        def step(state: State) -> frozenset[str]:
            told = set()
            for invited in [state.invitations[token] for token in tokens if token in state.invitations]:
                row = invited.row
                open_to_caller = row.invitee == caller.user_id and row.status_at(now) is InvitationStatus.PENDING
                if open_to_caller and row.fetched is None:
                    invited.row = replace(row, fetched=now)
                    state.touch_inviter(invited, now)
                    told.add(row.inviter)
            return frozenset(told)

        return await self._run(step, caller)

    # -- quotas

    async def reserve_invitation_mail(self, *, inviter: str, invitee: str, now: int) -> bool:
        quotas = invitation_mail_quotas(inviter, invitee, self._limits)
        return await self._run(lambda state: state.count_mail(quotas, now))

    # -- accounts, for the operator

    async def accounts(self, *, after: str, most: int, now: int) -> tuple[AccountSummary, ...]:
        def step(state: State) -> tuple[AccountSummary, ...]:
            users = sorted(user for user in state.accounts if user > after)[:most]
            return tuple(state.summary(user, now) for user in users)

        return await self._run(step)

    async def account(self, user_id: str, now: int) -> AccountSummary | None:
        return await self._run(lambda state: state.summary(user_id, now) if user_id in state.accounts else None)

    async def remove_account(self, user_id: str) -> Removed:
        def step(state: State) -> Removed:
            rows = [invited.row for invited in state.invitations.values()]
            removed = Removed(
                account=user_id in state.accounts,
                devices=len(state.devices.get(user_id, ())),
                invitations_sent=len([row for row in rows if row.inviter == user_id]),
                invitations_received=len([row for row in rows if row.invitee == user_id]),
            )
            state.invitations = {
                token: invited
                for token, invited in state.invitations.items()
                if user_id not in (invited.row.inviter, invited.row.invitee)
            }
            state.memberships = {d: whose for d, whose in state.memberships.items() if whose[0] != user_id}
            state.versions.pop(user_id, None)
            state.end_account(user_id)
            return removed

        return await self._run(step)

    async def release_address(self, user_id: str, now: int) -> tuple[str, ...]:
        def step(state: State) -> tuple[str, ...]:
            if user_id not in state.accounts:
                raise errors.NoSuchAccount(user_id)
            withdrawn = []
            for _, invited in sorted(state.invitations.items()):
                if invited.row.inviter == user_id and invited.row.status_at(now) is InvitationStatus.PENDING:
                    invited.row = replace(invited.row, status=InvitationStatus.WITHDRAWN)
                    invited.purge_after = now + self._limits.invitation_kept
                    state.touch(invited, now)
                    withdrawn.append(invited.row.invitee)
            state.end_account(user_id)
            return tuple(withdrawn)

        return await self._run(step)

    # -- upkeep

    async def listen(self, heard: Callable[[str | None], None]) -> None:
        await trio.sleep_forever()

    async def check(self) -> None:
        await self._run(lambda _state: None)

    def usage(self) -> Usage:
        return Usage(connections=1, in_use=0, waiting=0)

    async def counts(self, now: int) -> Counts:
        def step(state: State) -> Counts:
            statuses = [i.row.status_at(now) for i in state.invitations.values()]
            waiting = [s.row for s in state.sign_ins.values() if s.row.expires > now]
            return Counts(
                users=len(state.accounts),
                devices=sum(len(devices) for devices in state.devices.values()),
                devices_present=len(
                    [1 for _, until, box in state.presence.values() if box is not None and until > now]
                ),
                invitations_open=statuses.count(InvitationStatus.PENDING),
                sign_ins_pending=len([row for row in waiting if row.status is SignInStatus.PENDING]),
            )

        return await self._run(step)

    async def purge(self, now: int) -> int:
        def step(state: State) -> int:
            def size() -> int:
                kept = (state.sign_ins, state.nonces, state.presence, state.invitations, state.mails, state.versions)
                return sum(len(rows) for rows in kept)

            before, limits = size(), self._limits
            state.sign_ins = {code: s for code, s in state.sign_ins.items() if s.row.expires > now}
            state.nonces = {key: until for key, until in state.nonces.items() if until > now}
            state.presence = {k: v for k, v in state.presence.items() if v[1] > now - limits.presence_kept}
            state.invitations = {t: i for t, i in state.invitations.items() if i.purge_after > now}
            state.mails = [mail for mail in state.mails if mail[1] > now - DAY_MS]
            named = {user for i in state.invitations.values() for user in (i.row.inviter, i.row.invitee)}
            state.versions = {u: v for u, v in state.versions.items() if u in named or u in state.accounts}
            return before - size()

        return await self._run(step)


def _as_seen_by(caller: Caller, invited: Invited) -> StoredInvitation:
    mine = invited.row.inviter == caller.user_id
    return replace(invited.row, sealed=invited.sealed.get(caller.device) if mine else None)
