"""Contract under concurrency: operations of two handles at once behave as if one had come after the other.

Each was seen to fail on SQLite with transactions that begin as readers (BEGIN in place of BEGIN IMMEDIATE).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from peer.protocol.errors import DispatchError
from rendezvous.storage.errors import (
    AlreadyAnswered,
    NonceUsed,
    OldAnnouncement,
    TooManyInvitationsSent,
    TooManySignIns,
)
from rendezvous.storage.limits import DAY_MS, StorageLimits
from rendezvous.storage.rows import InvitationAnswer, InvitationStatus, PollOutcome, SignInStatus
from tests.rendezvous.storage.conftest import Handles, Open
from tests.rendezvous.storage.values import HOUR, NOW, approved, author, caller, claim, invitation, sign_in, version_of

T = TypeVar("T")
ALICE, BOB = "alice@example.org", "bob@example.org"
AT_ONCE = 12


async def at_once(calls: Sequence[Callable[[], Awaitable[T]]]) -> tuple[list[T], list[DispatchError]]:
    """Run all calls concurrently; return the results and the refusals."""
    results: list[T] = []
    refusals: list[DispatchError] = []

    async def one(call: Callable[[], Awaitable[T]]) -> None:
        try:
            results.append(await call())
        except DispatchError as error:
            refusals.append(error)

    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(one, call)
    return results, refusals


async def test_one_answer_wins(storages: Handles) -> None:
    await approved(storages[0], ALICE)
    await approved(storages[0], BOB)
    await storages[0].post_invitation(author(ALICE), invitation(ALICE, BOB, "t"), NOW)
    device = caller(ALICE).device

    def answer(number: int) -> Callable[[], Awaitable[object]]:
        box = b"%d" % number
        given = InvitationAnswer(
            token="t", decision=InvitationStatus.ACCEPTED, sealed={device: box}, digest=b"digest " + box
        )
        return lambda: storages[number % 2].answer_invitation(author(BOB), given, NOW)

    results, refusals = await at_once([answer(number) for number in range(AT_ONCE)])
    assert len(results) == 1 and {type(error) for error in refusals} == {AlreadyAnswered}
    assert await version_of(storages[1], caller(ALICE)) == NOW + 1  # posted, answered


async def test_a_nonce_is_used_once(storages: Handles) -> None:
    await approved(storages[0], ALICE)
    by = author(ALICE)
    results, refusals = await at_once(
        [
            lambda seq=seq: storages[seq % 2].announce(by, seq=seq, expires=NOW + HOUR, box=b"x")  # type: ignore[misc]
            for seq in range(1, AT_ONCE + 1)
        ]
    )
    assert len(results) == 1 and {type(error) for error in refusals} == {NonceUsed}


async def test_the_highest_seq_stays(storages: Handles) -> None:
    await approved(storages[0], ALICE)
    results, refusals = await at_once(
        [
            lambda seq=seq: storages[seq % 2].announce(author(ALICE), seq=seq, expires=NOW + HOUR, box=b"%d" % seq)  # type: ignore[misc]
            for seq in range(1, AT_ONCE + 1)
        ]
    )
    (row,) = await storages[0].announcements(caller(ALICE), ALICE, NOW)
    assert {type(error) for error in refusals} <= {OldAnnouncement}
    assert results and (row.seq, row.box) == (AT_ONCE, b"%d" % AT_ONCE)


async def test_bounds_hold(open_with: Open) -> None:
    storages = open_with(
        StorageLimits(open_invitations_sent=3, open_sign_ins_from_one=3, invitation_mails_to_one_user=3)
    )
    await approved(storages[0], ALICE)
    await storages[0].purge(NOW + HOUR)  # the sign-in of this moment does not count

    def post(number: int) -> Callable[[], Awaitable[object]]:
        made = invitation(ALICE, f"friend{number}@example.org", f"t{number}")
        return lambda: storages[number % 2].post_invitation(author(ALICE), made, NOW)

    def ask(number: int) -> Callable[[], Awaitable[object]]:
        asked, code = sign_in(ALICE, f"code {number}"), b"%d" % number
        return lambda: storages[number % 2].open_sign_in(
            author(ALICE), claim(ALICE), asked, device_code=code, interval=5000, now=NOW
        )

    def mail(number: int) -> Callable[[], Awaitable[object]]:
        return lambda: storages[number % 2].reserve_invitation_mail(inviter=f"{number}", invitee=BOB, now=NOW)

    for attempt, error in ((post, TooManyInvitationsSent), (ask, TooManySignIns)):
        results, refusals = await at_once([attempt(number) for number in range(AT_ONCE)])
        assert len(results) == 3 and {type(refusal) for refusal in refusals} == {error}
    mailed, _ = await at_once([mail(number) for number in range(AT_ONCE)])
    assert sorted(map(bool, mailed)) == [False] * (AT_ONCE - 3) + [True] * 3


async def test_guesses_and_mails_of_a_sign_in_are_counted_together(open_with: Open) -> None:
    """Seen to fail where each handle counts for itself, and where a count is read before it is written."""
    storages = open_with(StorageLimits(wrong_codes=4, sign_in_mails_to_one_user=3))
    asked = sign_in(ALICE, "code")
    await storages[0].open_sign_in(author(ALICE), claim(ALICE), asked, device_code=b"d", interval=5000, now=NOW)

    def mail(number: int) -> Callable[[], Awaitable[bool]]:
        return lambda: storages[number % 2].reserve_sign_in_mail("code", b"mail %d" % number, NOW)

    mailed, refusals = await at_once([mail(number) for number in range(AT_ONCE)])
    assert refusals == [] and sorted(mailed) == [False] * (AT_ONCE - 3) + [True] * 3
    await storages[1].purge(NOW + DAY_MS)
    await storages[0].open_sign_in(author(ALICE), claim(ALICE), asked, device_code=b"e", interval=5000, now=NOW)
    assert await storages[0].reserve_sign_in_mail("code", b"mail", NOW)

    def guess(number: int) -> Callable[[], Awaitable[bool]]:
        return lambda: storages[number % 2].count_wrong_code(b"mail")

    ended, refusals = await at_once([guess(number) for number in range(AT_ONCE)])
    assert refusals == [] and sorted(ended) == [False] * 3 + [True] * (AT_ONCE - 3)


async def test_one_invitation_is_open_between_two(storages: Handles) -> None:
    await approved(storages[0], ALICE)

    def post(number: int) -> Callable[[], Awaitable[object]]:
        return lambda: storages[number % 2].post_invitation(author(ALICE), invitation(ALICE, BOB, f"t{number}"), NOW)

    results, refusals = await at_once([post(number) for number in range(AT_ONCE)])
    assert refusals == [] and len({result.token for result in results}) == 1  # type: ignore[attr-defined]
    assert sum(result.new for result in results) == 1  # type: ignore[attr-defined]


async def test_one_root_claims_an_address_and_one_poll_gets_the_decision(storages: Handles) -> None:
    claims = [claim(ALICE, root=b"root %d" % number) for number in range(AT_ONCE)]
    for number, wanted in enumerate(claims):
        asked = sign_in(ALICE, f"code {number}", address=f"203.0.113.{number}")
        await storages[0].open_sign_in(author(ALICE), wanted, asked, device_code=b"%d" % number, interval=5000, now=NOW)

    def approve(number: int) -> Callable[[], Awaitable[SignInStatus]]:
        async def call() -> SignInStatus:
            return (await storages[number % 2].approve_sign_in(f"code {number}", claims[number], NOW)).status

        return call

    statuses, refusals = await at_once([approve(number) for number in range(AT_ONCE)])
    assert refusals == [] and statuses.count(SignInStatus.APPROVED) == 1
    outcomes, _ = await at_once(
        [
            lambda number=number: storages[number % 2].poll_sign_in(b"%d" % (number // 2), NOW)  # type: ignore[misc]
            for number in range(2 * AT_ONCE)
        ]
    )
    found = [poll.outcome for poll in outcomes]
    assert found.count(PollOutcome.APPROVED) == 1
    assert found.count(PollOutcome.ACCESS_DENIED) == AT_ONCE - 1
    assert found.count(PollOutcome.EXPIRED_TOKEN) == AT_ONCE
