"""Contract of invitations: posting, answering once, withdrawing, and what changed since a version."""

from __future__ import annotations

import pytest

from rendezvous.storage.errors import (
    AlreadyAnswered,
    InvitationExpired,
    InvitationIdTaken,
    InvitationWithdrawn,
    NoSuchInvitation,
    OtherDeviceSet,
    TooManyInvitationsReceived,
    TooManyInvitationsSent,
)
from rendezvous.storage.interface import Storage
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.rows import Decision, InvitationAnswer, InvitationStatus, PostedInvitation
from tests.rendezvous.storage.conftest import Open
from tests.rendezvous.storage.values import DAY, NOW, approved, author, caller, claim, invitation, version_of

ALICE, BOB, EVE = "alice@example.org", "bob@example.org", "eve@example.org"
OF_ALICE = f"device of {ALICE}"


def answer(token: str, box: bytes = b"box", *, decision: Decision = InvitationStatus.ACCEPTED) -> InvitationAnswer:
    return InvitationAnswer(token=token, decision=decision, sealed={OF_ALICE: box}, digest=b"digest of " + box)


async def people(storage: Storage) -> None:
    for user in (ALICE, BOB, EVE):
        await approved(storage, user)


async def test_from_posting_to_the_answer(storage: Storage) -> None:
    await approved(storage, ALICE, wanted=claim(ALICE, devices=(OF_ALICE, "phone")))
    made = invitation(ALICE, BOB, "t")
    assert await storage.post_invitation(author(ALICE), made, NOW) == PostedInvitation("t", new=True)
    await approved(storage, BOB)  # signs in after being invited
    seen = await storage.invitation(caller(BOB), "t")
    assert (seen.inviter, seen.invitee, seen.statement, seen.status) == (
        ALICE,
        BOB,
        made.statement,
        InvitationStatus.PENDING,
    )
    assert (seen.created, seen.expires, seen.answered, seen.sealed) == (NOW, made.expires, None, None)
    assert await storage.invitation(caller(ALICE), "t") == seen
    answered = await storage.answer_invitation(author(BOB), answer("t"), NOW + 5)
    assert (answered.status, answered.answered, answered.inviter) == (InvitationStatus.ACCEPTED, NOW + 5, ALICE)
    assert (await storage.invitation(caller(ALICE), "t")).sealed == b"box"
    assert (await storage.invitation(caller(ALICE, device="phone"), "t")).sealed is None
    assert (await storage.invitation(caller(BOB), "t")).sealed is None
    await approved(storage, EVE)
    with pytest.raises(NoSuchInvitation):
        await storage.invitation(caller(EVE), "t")
    # Answered, it is not open any more.
    current = invitation(ALICE, BOB, "next", device_set=made.device_set)
    assert (await storage.post_invitation(author(ALICE), current, NOW)).new


async def test_its_inviter_alone_learns_how_far_it_is(storage: Storage) -> None:
    """That a device of the invitee fetched it counts once, while it is open, and not by anybody else's."""
    await people(storage)
    await storage.post_invitation(author(ALICE), invitation(ALICE, BOB, "t"), NOW)
    assert await storage.invitation_by_token("u") is None
    bobs, known = await version_of(storage, caller(BOB)), await version_of(storage, caller(ALICE))
    await storage.note_invitation_mail("t", NOW, mailed=True)
    assert await storage.note_fetched(caller(EVE), ("t",), NOW + 5) == frozenset()
    assert await storage.note_fetched(caller(ALICE), ("t",), NOW + 5) == frozenset()
    assert await storage.note_fetched(caller(BOB), ("u", "t"), NOW + 6) == frozenset({ALICE})
    assert await storage.note_fetched(caller(BOB), ("t",), NOW + 7) == frozenset()
    (row,) = (await storage.invitation_changes(caller(ALICE), known)).sent
    assert (row.mailed, row.fetched) == (True, NOW + 6)
    assert await storage.invitation_by_token("t") == row
    assert await version_of(storage, caller(BOB)) == bobs
    await storage.post_invitation(author(EVE), invitation(EVE, BOB, "old"), NOW)
    assert await storage.note_fetched(caller(BOB), ("old",), NOW + 8 * DAY) == frozenset()


async def test_a_box_is_for_the_inviter_s_device_only(storage: Storage) -> None:
    """Also where the device went over to the invitee since."""
    await people(storage)
    await storage.post_invitation(author(ALICE), invitation(ALICE, BOB, "t"), NOW)
    await approved(storage, BOB, wanted=claim(BOB, epoch=2, devices=(OF_ALICE,), counter=2))
    as_alice = caller(BOB, device=OF_ALICE)
    await storage.answer_invitation(author(BOB, device=OF_ALICE), answer("t"), NOW)
    assert (await storage.invitation(as_alice, "t")).sealed is None
    assert [row.sealed for row in (await storage.invitation_changes(as_alice, 0)).received] == [None]


async def test_one_open_invitation_between_two(storage: Storage) -> None:
    await people(storage)
    made = invitation(ALICE, BOB, "1")
    await storage.post_invitation(author(ALICE), made, NOW)
    again = PostedInvitation("1", new=False)
    assert await storage.post_invitation(author(ALICE), made, NOW) == again
    assert await storage.post_invitation(author(ALICE), invitation(ALICE, BOB, "2"), NOW) == again
    with pytest.raises(NoSuchInvitation):
        await storage.invitation(caller(ALICE), "2")
    with pytest.raises(InvitationIdTaken):
        await storage.post_invitation(author(EVE), invitation(EVE, BOB, "1", statement=b"another"), NOW)
    assert (await storage.post_invitation(author(BOB), invitation(BOB, ALICE, "3"), NOW)).new  # the other way
    assert (await storage.post_invitation(author(ALICE), invitation(ALICE, BOB, "4"), made.expires)).new


async def test_an_invitation_carries_the_current_device_set(storage: Storage) -> None:
    await people(storage)
    await approved(storage, ALICE, wanted=claim(ALICE, epoch=2))
    by = author(ALICE)
    with pytest.raises(OtherDeviceSet):
        await storage.post_invitation(by, invitation(ALICE, BOB, "t"), NOW)
    current = invitation(ALICE, BOB, "t", device_set=claim(ALICE, epoch=2).device_set)
    assert (await storage.post_invitation(by, current, NOW)).new  # the refusal left the nonce unused


async def test_open_invitations_are_bounded(open_with: Open) -> None:
    storage, _ = open_with(StorageLimits(open_invitations_sent=2, open_invitations_received=2))
    await people(storage)
    for token, inviter, invitee in (("1", ALICE, BOB), ("2", ALICE, EVE), ("3", EVE, BOB)):
        await storage.post_invitation(author(inviter), invitation(inviter, invitee, token), NOW)
    with pytest.raises(TooManyInvitationsSent, match="already have 2 open"):
        await storage.post_invitation(author(ALICE), invitation(ALICE, "carol@example.org", "4"), NOW)
    await approved(storage, "carol@example.org")
    by_carol = invitation("carol@example.org", BOB, "5")
    with pytest.raises(TooManyInvitationsReceived, match=BOB):
        await storage.post_invitation(author("carol@example.org"), by_carol, NOW)
    await storage.withdraw_invitation(author(ALICE), "1", NOW)
    assert (await storage.post_invitation(author("carol@example.org"), by_carol, NOW)).new


async def test_it_is_answered_once(storage: Storage) -> None:
    await people(storage)
    await storage.post_invitation(author(ALICE), invitation(ALICE, BOB, "t"), NOW)
    for other in (ALICE, EVE):
        with pytest.raises(NoSuchInvitation):
            await storage.answer_invitation(author(other), answer("t"), NOW)
    first = await storage.answer_invitation(author(BOB), answer("t", decision=InvitationStatus.DECLINED), NOW)
    version = await version_of(storage, caller(ALICE))
    # The same again, also after its expiry, changes nothing; another one is refused.
    same = answer("t", decision=InvitationStatus.DECLINED)
    assert await storage.answer_invitation(author(BOB), same, NOW + 20 * DAY) == first
    with pytest.raises(AlreadyAnswered):
        await storage.answer_invitation(author(BOB), answer("t", b"other"), NOW)
    with pytest.raises(AlreadyAnswered):
        await storage.withdraw_invitation(author(ALICE), "t", NOW)
    assert await version_of(storage, caller(ALICE)) == version
    assert (await storage.invitation(caller(ALICE), "t")).sealed == b"box"


async def test_withdrawn_and_expired_ones_are_gone(storage: Storage) -> None:
    await people(storage)
    for token, inviter in (("1", ALICE), ("2", EVE)):
        await storage.post_invitation(author(inviter), invitation(inviter, BOB, token), NOW)
    for other in (BOB, EVE):
        with pytest.raises(NoSuchInvitation):
            await storage.withdraw_invitation(author(other), "1", NOW)
    withdrawn = await storage.withdraw_invitation(author(ALICE), "1", NOW)
    assert (withdrawn.status, withdrawn.invitee) == (InvitationStatus.WITHDRAWN, BOB)
    version = await version_of(storage, caller(BOB))
    assert await storage.withdraw_invitation(author(ALICE), "1", NOW + 8 * DAY) == withdrawn
    assert await version_of(storage, caller(BOB)) == version
    with pytest.raises(InvitationWithdrawn):
        await storage.answer_invitation(author(BOB), answer("1"), NOW)
    end = NOW + 7 * DAY
    with pytest.raises(InvitationExpired):
        await storage.answer_invitation(author(BOB), answer("2"), end)
    with pytest.raises(InvitationExpired):
        await storage.withdraw_invitation(author(EVE), "2", end)
    expired = await storage.invitation(caller(BOB), "2")
    assert expired.status is InvitationStatus.PENDING
    assert (expired.status_at(end - 1), expired.status_at(end)) == (InvitationStatus.PENDING, InvitationStatus.EXPIRED)
    assert withdrawn.status_at(end) is InvitationStatus.WITHDRAWN
    await storage.answer_invitation(author(BOB), answer("2"), end - 1)


async def test_an_answer_and_a_withdrawal_are_kept_thirty_days_longer(storage: Storage) -> None:
    await people(storage)
    for token, inviter in (("1", ALICE), ("2", EVE)):
        await storage.post_invitation(author(inviter), invitation(inviter, BOB, token), NOW)
    await storage.answer_invitation(author(BOB), answer("1"), NOW + DAY)
    await storage.withdraw_invitation(author(EVE), "2", NOW + 2 * DAY)
    for at, tokens in ((31 * DAY - 1, ["1", "2"]), (31 * DAY, ["2"]), (32 * DAY - 1, ["2"]), (32 * DAY, [])):
        await storage.purge(NOW + at)
        found = await storage.invitation_changes(caller(BOB), 0)
        assert [row.token for row in found.received] == tokens
    # Its answer went with it, so that a new invitation cannot get it.
    await storage.post_invitation(author(ALICE), invitation(ALICE, BOB, "1"), NOW)
    assert (await storage.invitation(caller(ALICE), "1")).sealed is None


async def test_a_version_is_at_least_the_time_of_its_change(storage: Storage) -> None:
    """A broker that lost its data, or was restored, goes on above each version that a device knows of before."""
    await people(storage)
    for at, expected in ((NOW, NOW), (NOW, NOW + 1), (NOW + DAY, NOW + DAY), (NOW, NOW + DAY + 1)):
        await storage.post_invitation(author(ALICE), invitation(ALICE, f"{expected}@x", f"{expected}"), at)
        assert await version_of(storage, caller(ALICE)) == expected


async def test_changes_since_a_version(storage: Storage) -> None:
    await people(storage)
    assert await version_of(storage, caller(BOB)) == 0
    empty = await storage.invitation_changes(caller(BOB), 0)
    assert (empty.version, empty.more, empty.sent, empty.received) == (0, False, (), ())
    for token, inviter, invitee in (("1", ALICE, BOB), ("2", BOB, ALICE), ("3", EVE, BOB), ("4", ALICE, EVE)):
        await storage.post_invitation(author(inviter), invitation(inviter, invitee, token), NOW)
    found = await storage.invitation_changes(caller(BOB), 0)
    assert ([row.token for row in found.sent], [row.token for row in found.received]) == (["2"], ["1", "3"])
    assert found.version == await version_of(storage, caller(BOB)) > 0
    await storage.answer_invitation(author(BOB), answer("1"), NOW)
    after = await storage.invitation_changes(caller(BOB), found.version)
    assert [(row.token, row.sealed) for row in after.received] == [("1", None)] and after.sent == ()
    at_alice = await storage.invitation_changes(caller(ALICE), 0)  # an old one that changed comes last
    assert [(row.token, row.sealed) for row in at_alice.sent] == [("4", None), ("1", b"box")]
    # A version from before the data was lost counts as 0.
    assert await storage.invitation_changes(caller(BOB), after.version + 1) == await storage.invitation_changes(
        caller(BOB), 0
    )
    current = await storage.invitation_changes(caller(BOB), after.version)
    assert (current.version, current.sent, current.received) == (after.version, (), ())


async def test_many_changes_come_in_parts(open_with: Open) -> None:
    storage, _ = open_with(StorageLimits(changes_at_once=3))
    await people(storage)
    tokens = [str(number) for number in range(6)]
    for token in tokens:
        await storage.post_invitation(author(ALICE), invitation(ALICE, f"friend{token}@example.org", token), NOW)
    version, parts, more = 0, [], True
    while more:
        found = await storage.invitation_changes(caller(ALICE), version)
        parts.append([row.token for row in found.sent])
        version, more = found.version, found.more
    assert parts == [tokens[:3], tokens[3:]]
    assert version == await version_of(storage, caller(ALICE))
