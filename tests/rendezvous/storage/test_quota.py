"""Contract of the bytes that are kept for one account."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from rendezvous.storage.errors import AccountFull
from rendezvous.storage.interface import Storage
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.rows import InvitationAnswer, InvitationStatus
from rendezvous.storage.sql.accounts import BOUNDED_OTHERWISE, KEPT_BY_ACCOUNT
from rendezvous.storage.sqlite import SqliteStorage
from tests.rendezvous.storage.conftest import Open
from tests.rendezvous.storage.values import DAY, HOUR, NOW, approved, author, caller, claim, invitation, version_of

ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@example.org"
LIMITS = StorageLimits(kept_bytes=20_000)


async def until_full(step: Callable[[int], Awaitable[object]], most: int = 200) -> int:
    """Return how many steps are taken before an account is full."""
    for number in range(most):
        try:
            await step(number)
        except AccountFull:
            return number
    return most


async def answered(storage: Storage, inviter: str, invitee: str, token: str, box: bytes, now: int = NOW) -> None:
    made = invitation(inviter, invitee, token, created=now, expires=now + 7 * DAY)
    await storage.post_invitation(author(inviter), made, now)
    given = InvitationAnswer(
        token=token, decision=InvitationStatus.DECLINED, sealed={f"device of {inviter}": box}, digest=token.encode()
    )
    await storage.answer_invitation(author(invitee), given, now)


async def test_two_accounts_cannot_fill_the_disk_with_answers(open_with: Open) -> None:
    storage, _ = open_with(LIMITS)
    for user in (ALICE, BOB, CAROL):
        await approved(storage, user)
    assert await until_full(lambda n: answered(storage, ALICE, BOB, f"t{n}", bytes(4_000))) == 4
    # It is Bob's account that is full: Alice invites others, and they answer.
    await answered(storage, ALICE, CAROL, "carol", bytes(4_000))
    with pytest.raises(AccountFull):
        await storage.announce(author(BOB), seq=1, expires=NOW + HOUR, box=bytes(4_000))
    # What is no more than before is permitted, and thirty days later there is room again.
    await storage.announce(author(CAROL), seq=1, expires=NOW + HOUR, box=bytes(4_000))
    await storage.withdraw_invitation(author(ALICE), "t4", NOW)
    later = NOW + 30 * DAY
    await storage.purge(later)
    await answered(storage, ALICE, BOB, "later", bytes(4_000), later)


@pytest.mark.parametrize("state", ["withdrawn", "declined", "expired"])
async def test_every_state_of_an_invitation_counts(open_with: Open, state: str) -> None:
    storage, _ = open_with(LIMITS)
    await approved(storage, ALICE)
    await approved(storage, BOB)

    async def post(number: int) -> None:
        made = invitation(ALICE, BOB, f"t{number}", statement=b"%d" % number + bytes(1_000), expires=NOW + HOUR)
        if state == "expired":
            await storage.post_invitation(author(ALICE), made, NOW + number * HOUR)
            return
        await storage.post_invitation(author(ALICE), made, NOW)
        if state == "withdrawn":
            await storage.withdraw_invitation(author(ALICE), made.token, NOW)
        else:
            given = InvitationAnswer(token=made.token, decision=InvitationStatus.DECLINED, sealed={}, digest=b"x")
            await storage.answer_invitation(author(BOB), given, NOW)

    async def post_expiring(number: int) -> None:
        now = NOW + number * HOUR
        made = invitation(
            ALICE, BOB, f"t{number}", statement=b"%d" % number + bytes(1_000), created=now, expires=now + HOUR
        )
        await storage.post_invitation(author(ALICE, expires=now + HOUR), made, now)

    assert 10 < await until_full(post_expiring if state == "expired" else post) < 20
    await storage.announce(author(BOB), seq=1, expires=NOW + HOUR, box=bytes(4_000))  # nobody else is full


async def test_a_refused_write_keeps_nothing_and_its_nonce_is_unused(open_with: Open) -> None:
    storage, _ = open_with(LIMITS)
    by = await approved(storage, ALICE)
    with pytest.raises(AccountFull):
        await storage.announce(by, seq=7, expires=NOW + HOUR, box=bytes(30_000))
    await storage.announce(by, seq=1, expires=NOW + HOUR, box=b"small")
    (row,) = await storage.announcements(caller(ALICE), ALICE, NOW)
    assert row.box == b"small"


async def test_above_the_bound_what_makes_it_smaller_is_permitted(tmp_path: Path) -> None:
    path = tmp_path / "rendezvous.db"
    async with SqliteStorage(path) as storage:
        by = await approved(storage, ALICE)
        await storage.announce(by, seq=1, expires=NOW + HOUR, box=bytes(40_000))
    async with SqliteStorage(path, limits=LIMITS) as storage:  # of an operator who lowered it
        with pytest.raises(AccountFull):
            await storage.announce(author(ALICE), seq=2, expires=NOW + HOUR, box=bytes(40_001))
        await storage.announce(author(ALICE), seq=3, expires=NOW + HOUR, box=bytes(39_000))
        await storage.announce(author(ALICE), seq=4, expires=NOW + HOUR, box=None)


async def test_memberships_of_devices_that_went_count(open_with: Open) -> None:
    storage, _ = open_with(LIMITS)

    async def sign_in(number: int) -> None:
        devices = tuple(f"device {number}.{n}" for n in range(10))
        await approved(storage, ALICE, wanted=claim(ALICE, epoch=number + 1, devices=devices), now=NOW + number * HOUR)

    assert 4 < await until_full(sign_in) < 10


async def test_versions_of_people_who_never_signed_in_go_with_their_invitations(tmp_path: Path) -> None:
    path = tmp_path / "rendezvous.db"
    async with SqliteStorage(path) as storage:
        await approved(storage, ALICE)
        for number in range(40):
            token = f"t{number}"
            await storage.post_invitation(author(ALICE), invitation(ALICE, f"{number}@example.org", token), NOW)
            await storage.withdraw_invitation(author(ALICE), token, NOW)

        def versions() -> int:
            with closing(sqlite3.connect(path)) as db:
                return int(db.execute("SELECT count(*) FROM versions").fetchone()[0])

        await storage.purge(NOW + 30 * DAY - 1)
        assert versions() == 41
        await storage.purge(NOW + 30 * DAY)
        assert versions() == 1
        assert await version_of(storage, caller(ALICE)) == NOW + 79


async def test_every_table_is_counted_or_bounded_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "rendezvous.db"
    async with SqliteStorage(path):
        pass
    with closing(sqlite3.connect(path)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == KEPT_BY_ACCOUNT.keys() | BOUNDED_OTHERWISE.keys()
    assert not KEPT_BY_ACCOUNT.keys() & BOUNDED_OTHERWISE.keys()
