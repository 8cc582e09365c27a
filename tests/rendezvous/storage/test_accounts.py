"""Contract of accounts, sign-ins, nonces and quotas of mail."""

from __future__ import annotations

import pytest

from peer.protocol.errors import DispatchError
from rendezvous.storage.errors import (
    NonceUsed,
    NoSuchSignIn,
    OldDeviceSet,
    OtherRoot,
    TooManySignIns,
    UnknownDevice,
    UnknownUser,
    UserCodeTaken,
)
from rendezvous.storage.interface import Storage
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.rows import AccountClaim, PollOutcome, SignIn, SignInStatus
from tests.rendezvous.storage.conftest import Open
from tests.rendezvous.storage.values import DAY, HOUR, MINUTE, NOW, approved, author, caller, claim, sign_in, version_of

ALICE, BOB = "alice@example.org", "bob@example.org"


async def ask(storage: Storage, code: str, user: str = ALICE, *, now: int = NOW, **changes: object) -> SignIn:
    """Open a sign-in with the code as both its codes; return it."""
    asked = sign_in(user, code, expires=now + 10 * MINUTE, **changes)
    await storage.open_sign_in(author(user), claim(user), asked, device_code=code.encode(), interval=5000, now=now)
    return asked


# -- sign-ins


async def test_a_sign_in_is_found_by_its_codes_until_it_expires(storage: Storage) -> None:
    asked = await ask(storage, "AAAA-AAAA")
    assert asked.status is SignInStatus.PENDING
    assert await storage.sign_in_by_user_code("AAAA-AAAA", NOW) == asked
    assert await storage.sign_in_by_user_code("BBBB-BBBB", NOW) is None
    assert await storage.reserve_sign_in_mail("AAAA-AAAA", b"first", NOW)
    assert await storage.sign_in_by_mail_token(b"first", NOW) == asked
    assert await storage.reserve_sign_in_mail("AAAA-AAAA", b"second", NOW)
    assert await storage.sign_in_by_mail_token(b"first", NOW) is None
    assert await storage.sign_in_by_mail_token(b"second", asked.expires - 1) == asked
    assert await storage.sign_in_by_mail_token(b"second", asked.expires) is None
    assert await storage.sign_in_by_user_code("AAAA-AAAA", asked.expires - 1) == asked
    assert await storage.sign_in_by_user_code("AAAA-AAAA", asked.expires) is None
    assert (await storage.poll_sign_in(b"AAAA-AAAA", asked.expires)).outcome is PollOutcome.EXPIRED_TOKEN
    with pytest.raises(NoSuchSignIn):
        await storage.approve_sign_in("AAAA-AAAA", claim(ALICE), asked.expires)


async def test_a_user_code_is_unique_and_a_refused_draw_keeps_nothing(storage: Storage) -> None:
    await ask(storage, "AAAA-AAAA")
    by = author(BOB)
    for code in ("AAAA-AAAA", "BBBB-BBBB"):  # the second draw has the same nonce, which the first did not use up
        opened = storage.open_sign_in(by, claim(BOB), sign_in(BOB, code), device_code=b"of bob", interval=5000, now=NOW)
        if code == "AAAA-AAAA":
            with pytest.raises(UserCodeTaken):
                await opened
        else:
            await opened
    taken = await storage.sign_in_by_user_code("AAAA-AAAA", NOW)
    assert taken is not None and taken.user_id == ALICE
    with pytest.raises(NonceUsed):
        await storage.open_sign_in(
            by, claim(BOB), sign_in(BOB, "CCCC-CCCC"), device_code=b"other", interval=5000, now=NOW
        )
    assert await storage.sign_in_by_user_code("CCCC-CCCC", NOW) is None


async def test_open_sign_ins_are_bounded_for_one_source_and_in_all(open_with: Open) -> None:
    storage, _ = open_with(StorageLimits(open_sign_ins=4, open_sign_ins_from_one=2))
    await ask(storage, "1")
    await ask(storage, "2")
    with pytest.raises(TooManySignIns):
        await ask(storage, "3")
    await ask(storage, "4", address="198.51.100.7")  # the same user from elsewhere
    await ask(storage, "5", BOB)  # another user from the same address
    await ask(storage, "6", BOB)  # in all there are four: the oldest of the address with the most makes room
    waiting = [code for code in "123456" if await storage.sign_in_by_user_code(code, NOW)]
    assert waiting == ["2", "4", "5", "6"]
    await ask(storage, "7", now=NOW + 10 * MINUTE)  # expired ones do not count, purged or not


async def test_a_crowd_of_sign_ins_pushes_out_none_but_its_own(open_with: Open) -> None:
    storage, _ = open_with(StorageLimits(open_sign_ins=6))
    await ask(storage, "alice", address="198.51.100.7")
    for number in range(20):
        await ask(storage, f"{number}", f"user{number}@example.org", address=f"203.0.113.{number % 2}")
        assert await storage.sign_in_by_user_code("alice", NOW)


async def test_polls_are_slowed_down_and_a_decision_is_handed_out_once(storage: Storage) -> None:
    asked = await ask(storage, "CODE")
    outcomes = []
    # The first; three too early by one millisecond more than the grace, each of which makes the interval five seconds
    # longer; one that is early within the grace.
    for at in (0, 4_799, 14_598, 29_397, 49_197):
        poll = await storage.poll_sign_in(b"CODE", NOW + at)
        outcomes.append(poll.outcome.value)
        assert poll.sign_in == asked
    assert outcomes == ["authorization_pending", "slow_down", "slow_down", "slow_down", "authorization_pending"]
    assert (await storage.poll_sign_in(b"EDOC", NOW)).outcome is PollOutcome.EXPIRED_TOKEN
    await storage.approve_sign_in("CODE", claim(ALICE), NOW)
    poll = await storage.poll_sign_in(b"CODE", NOW)
    assert poll.outcome is PollOutcome.APPROVED and poll.sign_in is not None and poll.sign_in.user_id == ALICE
    assert (await storage.poll_sign_in(b"CODE", NOW)).outcome is PollOutcome.EXPIRED_TOKEN


async def test_a_decision_is_final(storage: Storage) -> None:
    for code in ("1", "2", "3"):
        await ask(storage, code)
        assert await storage.reserve_sign_in_mail(code, code.encode(), NOW)
    await storage.deny_sign_in("1", "no")
    await storage.deny_sign_in("1", "no, again")
    denied = await storage.approve_sign_in("1", claim(ALICE), NOW)
    assert (denied.status, denied.reason) == (SignInStatus.DENIED, "no")
    # Nothing was claimed for the denied one: another root may.
    await storage.approve_sign_in("2", claim(ALICE, root=b"another"), NOW)
    await storage.deny_sign_in("2", "too late")
    approved_one = await storage.approve_sign_in("2", claim(ALICE, root=b"another", epoch=7), NOW)
    assert (approved_one.status, approved_one.reason) == (SignInStatus.APPROVED, "")
    for _ in range(StorageLimits().wrong_codes):
        assert await storage.count_wrong_code(b"2")
    with pytest.raises(NoSuchSignIn):
        await storage.reserve_sign_in_mail("2", b"new", NOW)
    assert await storage.sign_in_by_mail_token(b"new", NOW) is None
    still = await storage.sign_in_by_user_code("2", NOW)
    assert still is not None and still.status is SignInStatus.APPROVED
    refused = await storage.approve_sign_in("3", claim(ALICE), NOW)
    assert refused.status is SignInStatus.DENIED and "another root key" in refused.reason
    poll = await storage.poll_sign_in(b"3", NOW)
    assert poll.outcome is PollOutcome.ACCESS_DENIED and poll.sign_in == refused
    with pytest.raises(NoSuchSignIn):
        await storage.approve_sign_in("3", claim(ALICE), NOW)


async def test_wrong_codes_end_a_sign_in(open_with: Open) -> None:
    storage, _ = open_with(StorageLimits(wrong_codes=3))
    await ask(storage, "CODE")
    assert await storage.reserve_sign_in_mail("CODE", b"mail", NOW)
    assert [await storage.count_wrong_code(b"mail") for _ in range(4)] == [False, False, True, True]
    assert await storage.count_wrong_code(b"no such mail")
    ended = await storage.sign_in_by_user_code("CODE", NOW)
    assert ended is not None and ended.status is SignInStatus.DENIED and "mistyped" in ended.reason


# -- accounts


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (claim(ALICE, epoch=3, root=b"another"), OtherRoot),
        (claim(ALICE, epoch=1), OldDeviceSet),
        (claim(ALICE, epoch=2, device_set=b"a fork"), OldDeviceSet),
        (claim(ALICE, epoch=2), None),
        (claim(ALICE, epoch=4), None),
    ],
)
async def test_who_may_claim_an_address(
    storage: Storage, wanted: AccountClaim, error: type[DispatchError] | None
) -> None:
    await approved(storage, ALICE, wanted=claim(ALICE, epoch=2))
    opened = storage.open_sign_in(
        author(ALICE), wanted, sign_in(ALICE, "NEXT"), device_code=b"next", interval=5000, now=NOW
    )
    if error is None:
        await opened
        assert (await storage.approve_sign_in("NEXT", wanted, NOW)).status is SignInStatus.APPROVED
        with pytest.raises(OldDeviceSet):  # it is the one to compare with now
            await storage.open_sign_in(
                author(ALICE),
                claim(ALICE, epoch=wanted.epoch - 1),
                sign_in(ALICE, "LAST"),
                device_code=b"last",
                interval=5000,
                now=NOW,
            )
    else:
        with pytest.raises(error):
            await opened
        # Asked before the other claim was approved: refused at the approval, with the same sentence.
        await storage.open_sign_in(
            author(BOB), claim(BOB), sign_in(ALICE, "NEXT"), device_code=b"next", interval=5000, now=NOW
        )
        assert (await storage.approve_sign_in("NEXT", wanted, NOW)).status is SignInStatus.DENIED


async def test_devices_are_those_of_the_newest_device_set(storage: Storage) -> None:
    with pytest.raises(UnknownUser):
        await version_of(storage, caller(ALICE))
    await approved(storage, ALICE, wanted=claim(ALICE, devices=("laptop", "phone")))
    for device in ("laptop", "phone"):
        assert await version_of(storage, caller(ALICE, device=device)) == 0
    await storage.announce(author(ALICE, device="phone"), seq=1, expires=NOW + HOUR, box=b"phone")
    await storage.announce(author(ALICE, device="laptop"), seq=1, expires=NOW + HOUR, box=b"laptop")
    await approved(storage, ALICE, wanted=claim(ALICE, epoch=2, devices=("laptop", "tablet")))
    with pytest.raises(UnknownDevice):
        await version_of(storage, caller(ALICE, device="phone"))
    with pytest.raises(UnknownDevice):
        await storage.announce(author(ALICE, device="phone"), seq=2, expires=NOW + HOUR, box=b"phone")
    assert [row.device for row in await storage.announcements(caller(ALICE, device="tablet"), ALICE, NOW)] == ["laptop"]
    # Listed again, the phone is absent until it announces itself, and may begin anew.
    await approved(storage, ALICE, wanted=claim(ALICE, epoch=3, devices=("laptop", "phone")))
    assert [row.device for row in await storage.announcements(caller(ALICE, device="phone"), ALICE, NOW)] == ["laptop"]


async def test_a_device_is_whose_claim_has_the_higher_counter(storage: Storage) -> None:
    await approved(storage, ALICE, wanted=claim(ALICE, devices=("laptop", "phone"), counter=2))
    await storage.announce(author(ALICE, device="phone"), seq=5, expires=NOW + HOUR, box=b"of alice")
    for counter in (1, 2):  # a lower one, and the same: Bob lists a device that never signed for him
        await approved(storage, BOB, wanted=claim(BOB, epoch=counter, devices=("tablet", "phone"), counter=counter))
        with pytest.raises(UnknownDevice):
            await version_of(storage, caller(BOB, device="phone"))
        assert await version_of(storage, caller(ALICE, device="phone")) == 0
    await approved(storage, BOB, wanted=claim(BOB, epoch=3, devices=("tablet", "phone"), counter=3))
    assert await version_of(storage, caller(BOB, device="phone")) == 0
    assert await storage.announcements(caller(ALICE, device="laptop"), ALICE, NOW) == ()
    # What Alice still lists of old is not hers again.
    await approved(storage, ALICE, wanted=claim(ALICE, epoch=2, devices=("laptop", "phone"), counter=2))
    for refused in (lambda who: storage.standing(who, NOW), lambda who: storage.announcements(who, ALICE, NOW)):
        with pytest.raises(UnknownDevice):
            await refused(caller(ALICE, device="phone"))
    assert await version_of(storage, caller(BOB, device="phone")) == 0


# -- nonces


async def test_a_nonce_is_used_once_by_one_device_and_only_by_what_succeeds(storage: Storage) -> None:
    await approved(storage, ALICE)
    await approved(storage, BOB)
    by_alice, by_bob = author(ALICE, nonce="x"), author(BOB, nonce="x")
    await storage.announce(author(ALICE), seq=5, expires=NOW + HOUR, box=b"5")
    for _ in range(2):  # refused for its seq, both times
        with pytest.raises(DispatchError, match="newer announcement"):
            await storage.announce(by_alice, seq=5, expires=NOW + HOUR, box=b"5")
    await storage.announce(by_alice, seq=6, expires=NOW + HOUR, box=b"6")
    with pytest.raises(NonceUsed):
        await storage.announce(by_alice, seq=7, expires=NOW + HOUR, box=b"7")
    await storage.announce(by_bob, seq=1, expires=NOW + HOUR, box=b"1")
    stranger = author("eve@example.org", nonce="x")
    for _ in range(2):
        with pytest.raises(UnknownUser):
            await storage.announce(stranger, seq=1, expires=NOW + HOUR, box=b"1")


async def test_a_nonce_is_kept_until_it_expires(storage: Storage) -> None:
    await approved(storage, ALICE)
    by = author(ALICE, nonce="x", expires=NOW + 10 * MINUTE)
    await storage.announce(by, seq=1, expires=NOW + HOUR, box=b"1")
    await storage.purge(NOW + 10 * MINUTE - 1)
    with pytest.raises(NonceUsed):
        await storage.announce(by, seq=2, expires=NOW + HOUR, box=b"2")
    await storage.purge(NOW + 10 * MINUTE)
    await storage.announce(by, seq=2, expires=NOW + HOUR, box=b"2")


# -- quotas


async def test_mails_for_invitations_are_counted_by_the_two_and_by_each_for_a_day(open_with: Open) -> None:
    storage, _ = open_with(
        StorageLimits(invitation_mails_to_one_user=3, invitation_mails_by_one_account=4, invitation_mails_between_two=2)
    )

    async def reserve(inviter: str, invitee: str, now: int = NOW) -> bool:
        return await storage.reserve_invitation_mail(inviter=inviter, invitee=invitee, now=now)

    # One account makes and withdraws invitations as often as it likes: it does not use up what others have.
    assert [await reserve("x", ALICE) for _ in range(5)] == [True, True, False, False, False]
    assert [await reserve("y", ALICE), await reserve("z", ALICE)] == [True, False]  # the recipient's are used up
    assert [await reserve("z", BOB), await reserve("x", BOB)] == [True, True]  # a refusal counted nothing
    assert [await reserve("x", "carol"), await reserve("x", "dave")] == [True, False]  # the account's are used up
    await storage.purge(NOW + DAY - 1)
    assert not await reserve("z", ALICE, NOW + DAY - 1)
    assert await reserve("z", ALICE, NOW + DAY)
    assert [await reserve("x", BOB, NOW + DAY - 1), await reserve("x", BOB, NOW + DAY)] == [False, True]


async def test_nothing_uses_up_the_mails_for_somebody_else_s_sign_in(open_with: Open) -> None:
    storage, _ = open_with(StorageLimits(sign_in_mails_to_one_user=4, sign_in_mails_from_one_network=2))
    for number in range(30):
        await storage.reserve_invitation_mail(inviter=f"account{number}", invitee=ALICE, now=NOW)

    async def mailed(code: str, address: str, now: int = NOW) -> bool:
        await ask(storage, code, address=address, now=now)
        return await storage.reserve_sign_in_mail(code, code.encode(), now)

    strangers = [(f"{number}", f"203.0.113.{number // 3}") for number in range(9)]
    sent = [await mailed(code, address) for code, address in strangers]
    assert sent == [True, True, False, True, True, False, False, False, False]
    # The quotas are used up for the day. The pages that were mailed are valid, and serve whoever reads the mailbox.
    assert not await mailed("hers", "198.51.100.7")
    assert await storage.sign_in_by_mail_token(b"4", NOW)
    # Once none is valid any more there is another mail, for whoever asks first.
    later = NOW + 10 * MINUTE
    assert await storage.sign_in_by_mail_token(b"4", later) is None
    assert await mailed("hers again", "198.51.100.7", later)
    assert not await mailed("stranger again", "203.0.113.9", later)
    # One that could not be sent is no valid page.
    await storage.forget_mail_token(b"hers again")
    assert await storage.reserve_sign_in_mail("stranger again", b"new", later)
    # Another user has their own.
    await ask(storage, "bob", BOB, address="203.0.113.0", now=later)
    assert await storage.reserve_sign_in_mail("bob", b"bob", later)


async def test_a_device_is_vouched_for_once_with_a_nonce_and_only_if_it_is_its_users(storage: Storage) -> None:
    await approved(storage, ALICE)
    by = author(ALICE)
    await storage.authorize(by)
    with pytest.raises(NonceUsed):
        await storage.authorize(by)
    with pytest.raises(UnknownDevice):
        await storage.authorize(author(ALICE, device="another"))
    with pytest.raises(UnknownUser):
        await storage.authorize(author("nobody@example.org"))
