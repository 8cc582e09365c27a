"""Contract of what an operator does with accounts: listing them, removing one, releasing an address."""

from __future__ import annotations

import pytest

from rendezvous.storage.errors import NoSuchAccount, NoSuchInvitation, UnknownDevice, UnknownUser
from rendezvous.storage.interface import Storage
from rendezvous.storage.rows import InvitationAnswer, InvitationStatus, Removed
from rendezvous.storage.rules import ROW_BYTES
from tests.rendezvous.storage.values import HOUR, NOW, approved, author, caller, claim, invitation, sign_in, version_of

ALICE, BOB, EVE = "alice@example.org", "bob@example.org", "eve@example.org"


async def people(storage: Storage) -> None:
    """Alice has invited Bob (open) and Eve (answered); Eve has invited Alice (open). All are there."""
    for user in (ALICE, BOB, EVE):
        await approved(storage, user)
        await storage.announce(author(user), seq=4, expires=NOW + HOUR, box=b"box")
    for token, inviter, invitee in (("1", ALICE, BOB), ("2", ALICE, EVE), ("3", EVE, ALICE)):
        await storage.post_invitation(author(inviter), invitation(inviter, invitee, token), NOW)
    given = InvitationAnswer(
        token="2", decision=InvitationStatus.ACCEPTED, sealed={caller(ALICE).device: b"sealed"}, digest=b"digest"
    )
    await storage.answer_invitation(author(EVE), given, NOW)


async def test_accounts_are_listed_in_parts(storage: Storage) -> None:
    await people(storage)
    first = await storage.accounts(after="", most=2, now=NOW)
    assert [each.user_id for each in first] == [ALICE, BOB]
    assert [each.user_id for each in await storage.accounts(after=BOB, most=2, now=NOW)] == [EVE]
    assert await storage.accounts(after=EVE, most=2, now=NOW) == ()
    alice = first[0]
    assert (alice.created, dict(alice.devices)) == (NOW, {caller(ALICE).device: NOW + HOUR})
    kept = [claim(ALICE).device_set, b"box", b"", b"statement 1", b"statement 2"]  # "": her device's membership
    assert alice.kept_bytes == sum(len(each) + ROW_BYTES for each in kept)
    later = await storage.account(ALICE, NOW + HOUR)
    assert later is not None and dict(later.devices) == {caller(ALICE).device: None}
    await storage.announce(author(ALICE), seq=5, expires=NOW + HOUR, box=None)
    withdrawn = await storage.account(ALICE, NOW)
    assert withdrawn is not None and dict(withdrawn.devices) == {caller(ALICE).device: None}
    assert await storage.account("carol@example.org", NOW) is None


async def test_nothing_is_left_of_an_account_that_was_removed(storage: Storage) -> None:
    await people(storage)
    asked = sign_in(ALICE, "CODE")
    await storage.open_sign_in(author(ALICE), claim(ALICE), asked, device_code=b"code", interval=5000, now=NOW)
    known = await version_of(storage, caller(ALICE))
    assert await storage.remove_account(ALICE) == Removed(
        account=True, devices=1, invitations_sent=2, invitations_received=1
    )
    assert await storage.account(ALICE, NOW) is None
    assert await storage.announcements(caller(BOB), ALICE, NOW) == ()
    assert await storage.sign_in_by_user_code("CODE", NOW) is None
    for user, token in ((BOB, "1"), (EVE, "2"), (EVE, "3")):
        with pytest.raises(NoSuchInvitation):
            await storage.invitation(caller(user), token)
    with pytest.raises(UnknownUser):
        await version_of(storage, caller(ALICE))
    with pytest.raises(UnknownUser):
        await storage.announce(author(ALICE), seq=9, expires=NOW + HOUR, box=b"box")
    assert len(await storage.announcements(caller(BOB), EVE, NOW)) == 1  # the others are as they were
    # Again: there is nothing. The address is whose who proves it next, and goes on above what was known before.
    assert await storage.remove_account(ALICE) == Removed(
        account=False, devices=0, invitations_sent=0, invitations_received=0
    )
    await approved(storage, ALICE, wanted=claim(ALICE, root=b"another", devices=("new",)))
    account = await storage.account(ALICE, NOW)
    assert (
        account is not None and account.kept_bytes == len(claim(ALICE).device_set) + 2 * ROW_BYTES
    )  # not the old device's
    await storage.post_invitation(author(ALICE, device="new"), invitation(ALICE, BOB, "4"), NOW + 9)
    assert await version_of(storage, caller(ALICE, device="new")) > known


async def test_an_address_without_an_account_may_have_invitations_to_it(storage: Storage) -> None:
    await approved(storage, ALICE)
    await storage.post_invitation(author(ALICE), invitation(ALICE, BOB, "1"), NOW)
    assert await storage.remove_account(BOB) == Removed(
        account=False, devices=0, invitations_sent=0, invitations_received=1
    )
    with pytest.raises(NoSuchInvitation):
        await storage.invitation(caller(ALICE), "1")


async def test_a_released_address_is_claimed_by_the_next_root_key(storage: Storage) -> None:
    await people(storage)
    assert await storage.release_address(ALICE, NOW) == (BOB,)
    with pytest.raises(UnknownUser):
        await version_of(storage, caller(ALICE))
    assert await storage.announcements(caller(BOB), ALICE, NOW) == ()
    # Bob learns that what he was asked is off: who asked cannot read an answer any more.
    assert (await storage.invitation(caller(BOB), "1")).status is InvitationStatus.WITHDRAWN
    assert (await storage.invitation(caller(EVE), "2")).status is InvitationStatus.ACCEPTED
    with pytest.raises(NoSuchAccount, match=ALICE):
        await storage.release_address(ALICE, NOW)
    await approved(storage, ALICE, wanted=claim(ALICE, root=b"another", devices=("new laptop",)))
    new, old = caller(ALICE, device="new laptop"), caller(ALICE)
    assert [each.token for each in (await storage.invitation_changes(new, 0)).received] == ["3"]
    with pytest.raises(UnknownDevice):
        await version_of(storage, old)
    # The old root key is not taken any more.
    assert (await storage.account(ALICE, NOW)) is not None
    late = sign_in(ALICE, "LATE")
    with pytest.raises(Exception, match="another root key"):
        await storage.open_sign_in(author(ALICE), claim(ALICE), late, device_code=b"late", interval=5000, now=NOW)


async def test_a_device_of_a_released_address_goes_to_nobody_who_had_it_before(storage: Storage) -> None:
    """Seen to fail where its membership went with the account."""
    await approved(storage, BOB, wanted=claim(BOB, devices=("tablet", "phone"), counter=1))
    await approved(storage, ALICE, wanted=claim(ALICE, devices=("laptop", "phone"), counter=2))
    await storage.release_address(ALICE, NOW)
    await approved(storage, BOB, wanted=claim(BOB, epoch=2, devices=("tablet", "phone"), counter=1))
    with pytest.raises(UnknownDevice):
        await version_of(storage, caller(BOB, device="phone"))
