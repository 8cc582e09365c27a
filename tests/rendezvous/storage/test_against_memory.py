"""Any sequence of operations has the same results on SQLite and PostgreSQL as on the implementation in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import DispatchError
from rendezvous.storage.interface import Storage
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.postgresql import PostgresqlStorage
from rendezvous.storage.rows import Author, Caller, InvitationAnswer, InvitationStatus
from rendezvous.storage.sqlite import SqliteStorage
from tests.conftest import few
from tests.rendezvous.postgresql import Server
from tests.rendezvous.storage.memory import MemoryStorage
from tests.rendezvous.storage.values import DAY, HOUR, NOW, claim, invitation, sign_in

Operation = Callable[[Storage], Awaitable[object]]

LIMITS = StorageLimits(
    open_sign_ins=6,
    open_sign_ins_from_one=3,
    wrong_codes=2,
    sign_in_mails_to_one_user=2,
    sign_in_mails_from_one_network=1,
    invitation_mails_to_one_user=3,
    invitation_mails_between_two=2,
    open_invitations_sent=2,
    open_invitations_received=2,
    changes_at_once=2,
    kept_bytes=2_200,
)
IN_MEMORY = Path("/dev/shm")
"""Where there is one, fsync costs nothing: it took nine tenths of the time."""
USERS = ("a@x", "b@x", "c@x")
DEVICES = ("laptop", "phone")
"""All users claim both, so that they go from one to another; each has one of their own beside them."""

users, devices = st.sampled_from(USERS), st.sampled_from(DEVICES)
times = st.sampled_from([NOW, NOW + 3_000, NOW + 9_000, NOW + HOUR, NOW + DAY, NOW + 8 * DAY, NOW + 40 * DAY])
codes = st.sampled_from(["1", "2", "3"])
tokens = st.sampled_from(["t1", "t2", "t3", "t4"])
boxes = st.sampled_from([b"x", b"y"])
callers = st.builds(Caller, users, devices)
authors = st.builds(Author, users, devices, st.integers(0, 40).map(str), times)
claims = st.builds(
    claim,
    users,
    epoch=st.integers(1, 3),
    devices=st.sampled_from([DEVICES, DEVICES[:1], DEVICES[1:]]),
    counter=st.integers(1, 4),
    root=st.sampled_from([b"root", b"root", b"root", b"other"]),
)


@st.composite
def operations(draw: st.DrawFn) -> tuple[str, Operation]:
    """Return an operation with arguments, and how it reads in a failure."""
    by, who, now, user = draw(authors), draw(callers), draw(times), draw(users)
    other = draw(users.filter(lambda other: other != by.user_id))
    code, token, box, wanted = draw(codes), draw(tokens), draw(boxes), draw(claims)
    asked = sign_in(user, code, device_set=wanted.device_set, expires=now + HOUR)
    made = invitation(by.user_id, other, token, device_set=wanted.device_set, expires=now + 7 * DAY)
    given_answer = InvitationAnswer(
        token=token,
        decision=draw(st.sampled_from([InvitationStatus.ACCEPTED, InvitationStatus.DECLINED])),
        sealed={who.device: box},
        digest=box,
    )
    seq, after = draw(st.integers(0, 4)), draw(st.sampled_from([0, NOW, NOW + 1, NOW + 3, NOW + DAY, NOW + 50 * DAY]))
    every: dict[str, Operation] = {
        f"open_sign_in {by} {wanted} {code} at {now}": lambda s: s.open_sign_in(
            by, wanted, asked, device_code=code.encode(), interval=5000, now=now
        ),
        f"approve_sign_in {code} {wanted} at {now}": lambda s: s.approve_sign_in(code, wanted, now),
        f"deny_sign_in {code}": lambda s: s.deny_sign_in(code, "no"),
        f"poll_sign_in {code} at {now}": lambda s: s.poll_sign_in(code.encode(), now),
        f"reserve_sign_in_mail {code} {box!r} at {now}": lambda s: s.reserve_sign_in_mail(
            code, box + code.encode(), now
        ),
        f"forget_mail_token {code} {box!r}": lambda s: s.forget_mail_token(box + code.encode()),
        f"count_wrong_code {code} {box!r}": lambda s: s.count_wrong_code(box + code.encode()),
        f"sign_in_by_user_code {code} at {now}": lambda s: s.sign_in_by_user_code(code, now),
        f"sign_in_by_mail_token {code} {box!r} at {now}": lambda s: s.sign_in_by_mail_token(box + code.encode(), now),
        f"authorize {by}": lambda s: s.authorize(by),
        f"announce {by} {seq} {now}": lambda s: s.announce(by, seq=seq, expires=now, box=None if seq == 3 else box),
        f"announcements {who} {user} at {now}": lambda s: s.announcements(who, user, now),
        f"post_invitation {by} {made} at {now}": lambda s: s.post_invitation(by, made, now),
        f"answer_invitation {by} {given_answer} at {now}": lambda s: s.answer_invitation(by, given_answer, now),
        f"withdraw_invitation {by} {token} at {now}": lambda s: s.withdraw_invitation(by, token, now),
        f"invitation {who} {token}": lambda s: s.invitation(who, token),
        f"standing {who} at {now}": lambda s: s.standing(who, now),
        f"invitation_changes {who} {after}": lambda s: s.invitation_changes(who, after),
        f"invitation_by_token {token}": lambda s: s.invitation_by_token(token),
        f"note_invitation_mail {token} {seq} at {now}": lambda s: s.note_invitation_mail(token, now, mailed=seq > 1),
        f"note_fetched {who} {token} at {now}": lambda s: s.note_fetched(who, (token, "t1"), now),
        f"reserve_invitation_mail {by.user_id} {other} at {now}": lambda s: s.reserve_invitation_mail(
            inviter=by.user_id, invitee=other, now=now
        ),
        f"accounts {user} at {now}": lambda s: s.accounts(after=user, most=1 + seq, now=now),
        f"account {user} at {now}": lambda s: s.account(user, now),
        f"remove_account {user}": lambda s: s.remove_account(user),
        f"release_address {user} at {now}": lambda s: s.release_address(user, now),
        f"counts at {now}": lambda s: s.counts(now),
        f"purge at {now}": lambda s: s.purge(now),
    }
    name = draw(st.sampled_from(list(every)))
    return name, every[name]


async def signed_in(storage: Storage) -> None:
    """Start with everybody in: by chance alone few sequences would get past a sign-in."""
    for number, user in enumerate(USERS):
        wanted = claim(user, devices=(f"{user}'s", *DEVICES), root=b"root")
        by = Author(user, "laptop", f"first {number}", NOW)
        asked = sign_in(user, f"first {number}", device_set=wanted.device_set)
        await storage.open_sign_in(by, wanted, asked, device_code=b"first %d" % number, interval=5000, now=NOW)
        await storage.approve_sign_in(asked.user_code, wanted, NOW)


async def all_changes(who: Caller, storage: Storage) -> object:
    return await storage.invitation_changes(who, 0)


async def outcome(operation: Operation, storage: Storage) -> object:
    try:
        return await operation(storage)
    except DispatchError as error:
        return error.to_json()


@few(10)
@given(st.lists(operations(), min_size=15, max_size=40))
def test_the_same_sequence_has_the_same_results(postgresql: Server, sequence: list[tuple[str, Operation]]) -> None:
    async def compare() -> None:
        with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
            async with (
                SqliteStorage(Path(folder) / "rendezvous.db", limits=LIMITS) as sqlite,
                PostgresqlStorage(postgresql.database(), limits=LIMITS) as server,
                MemoryStorage(limits=LIMITS) as memory,
            ):
                for storage in (memory, sqlite, server):
                    await signed_in(storage)
                for name, operation in sequence:
                    expected = await outcome(operation, memory)
                    assert await outcome(operation, sqlite) == expected, name
                    assert await outcome(operation, server) == expected, name
                for who in (Caller(user, device) for user in USERS for device in DEVICES):
                    changes = partial(all_changes, who)
                    expected = await outcome(changes, memory)
                    assert await outcome(changes, sqlite) == await outcome(changes, server) == expected

    trio.run(compare)
