"""Contract of presence, counts and purging."""

from __future__ import annotations

import pytest

from peer.protocol.errors import Unavailable
from rendezvous.storage.errors import OldAnnouncement, UnknownDevice, UnknownUser
from rendezvous.storage.interface import Storage
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.rows import Announcement, Counts, Standing
from tests.rendezvous.storage.conftest import Open
from tests.rendezvous.storage.values import (
    DAY,
    HOUR,
    NOW,
    approved,
    author,
    caller,
    claim,
    invitation,
    sign_in,
    version_of,
)

ALICE, BOB = "alice@example.org", "bob@example.org"


async def test_announcements_are_replaced_withdrawn_and_expire(storage: Storage) -> None:
    await approved(storage, ALICE, wanted=claim(ALICE, devices=("phone", "laptop")))
    await approved(storage, BOB)
    await storage.announce(author(ALICE, device="phone"), seq=1, expires=NOW + HOUR, box=b"p1")
    await storage.announce(author(ALICE, device="laptop"), seq=7, expires=NOW + 2 * HOUR, box=b"l7")
    await storage.announce(author(ALICE, device="phone"), seq=2, expires=NOW + HOUR, box=b"p2")
    laptop, phone = Announcement("laptop", 7, NOW + 2 * HOUR, b"l7"), Announcement("phone", 2, NOW + HOUR, b"p2")
    assert await storage.announcements(caller(BOB), ALICE, NOW) == (laptop, phone)
    assert await storage.announcements(caller(BOB), ALICE, NOW + HOUR - 1) == (laptop, phone)
    assert await storage.announcements(caller(BOB), ALICE, NOW + HOUR) == (laptop,)
    await storage.announce(author(ALICE, device="laptop"), seq=8, expires=NOW + HOUR, box=None)
    assert await storage.announcements(caller(BOB), ALICE, NOW) == (phone,)
    assert await storage.announcements(caller(BOB), "nobody@example.org", NOW) == ()
    with pytest.raises(UnknownUser):
        await storage.announcements(caller("nobody@example.org"), ALICE, NOW)


async def test_a_device_learns_which_announcement_is_kept_of_it(storage: Storage) -> None:
    await approved(storage, ALICE, wanted=claim(ALICE, devices=("phone", "laptop")))
    await approved(storage, BOB)
    phone, laptop = caller(ALICE, device="phone"), caller(ALICE, device="laptop")
    assert await storage.standing(phone, NOW) == Standing(0, 0)
    await storage.announce(author(ALICE, device="phone"), seq=7, expires=NOW + HOUR, box=b"p7")
    await storage.announce(author(BOB), seq=9, expires=NOW + HOUR, box=b"b9")
    assert await storage.standing(phone, NOW + HOUR - 1) == Standing(0, 7)
    assert await storage.standing(phone, NOW + HOUR) == Standing(0, 0)
    assert await storage.standing(laptop, NOW) == Standing(0, 0)  # the other one's is not this one's
    await storage.post_invitation(author(ALICE, device="phone"), invitation(ALICE, BOB, "t"), NOW)
    assert await storage.standing(phone, NOW) == Standing(NOW, 7)
    await storage.announce(author(ALICE, device="phone"), seq=8, expires=NOW + HOUR, box=None)
    assert await storage.standing(phone, NOW) == Standing(NOW, 0)
    with pytest.raises(UnknownDevice):
        await storage.standing(caller(BOB, device="phone"), NOW)


async def test_seq_only_grows_and_is_kept_longer_than_the_announcement(storage: Storage) -> None:
    await approved(storage, ALICE)
    await storage.announce(author(ALICE), seq=5, expires=NOW + HOUR, box=b"5")
    for seq in (5, 4, 0):
        for box in (b"old", None):
            with pytest.raises(OldAnnouncement):
                await storage.announce(author(ALICE), seq=seq, expires=NOW + 2 * HOUR, box=box)
    assert [row.box for row in await storage.announcements(caller(ALICE), ALICE, NOW)] == [b"5"]
    await storage.announce(author(ALICE), seq=6, expires=NOW, box=None)
    kept = StorageLimits().presence_kept
    await storage.purge(NOW + kept - 1)
    with pytest.raises(OldAnnouncement):
        await storage.announce(author(ALICE), seq=6, expires=NOW + HOUR, box=b"6")
    await storage.purge(NOW + kept)
    await storage.announce(author(ALICE), seq=1, expires=NOW + HOUR, box=b"1")


async def test_counts(storage: Storage) -> None:
    await approved(storage, ALICE, wanted=claim(ALICE, devices=("phone", "laptop")))
    await approved(storage, BOB)
    phone = author(ALICE, device="phone")
    await storage.announce(phone, seq=1, expires=NOW + HOUR, box=b"p")
    await storage.announce(author(BOB), seq=1, expires=NOW + HOUR, box=None)  # withdrawn: not counted
    for token, invitee in (("t", BOB), ("taken back", "carol@example.org")):
        await storage.post_invitation(author(ALICE, device="phone"), invitation(ALICE, invitee, token), NOW)
    await storage.withdraw_invitation(author(ALICE, device="phone"), "taken back", NOW)
    await storage.open_sign_in(
        author(BOB), claim(BOB), sign_in(BOB, "CODE"), device_code=b"code", interval=5000, now=NOW
    )
    now = Counts(users=2, devices=3, devices_present=1, invitations_open=1, sign_ins_pending=1)
    assert await storage.counts(NOW) == now
    later = Counts(users=2, devices=3, devices_present=0, invitations_open=0, sign_ins_pending=0)
    assert await storage.counts(NOW + 7 * DAY) == later


async def test_purge_counts_what_it_deletes_and_spares_the_rest(storage: Storage) -> None:
    await approved(storage, ALICE)  # a nonce and a decided sign-in
    await storage.announce(author(ALICE), seq=1, expires=NOW + HOUR, box=b"1")
    await storage.post_invitation(author(ALICE), invitation(ALICE, BOB, "t"), NOW)
    await storage.reserve_invitation_mail(inviter=ALICE, invitee=BOB, now=NOW)
    assert await storage.purge(NOW) == 0
    assert await storage.purge(NOW + HOUR) == 4  # three nonces and the sign-in
    assert await storage.purge(NOW + DAY) == 4  # presence, and the mail under its three quotas
    assert await storage.purge(NOW + 37 * DAY - 1) == 0
    assert await storage.purge(NOW + 37 * DAY) == 2  # the invitation, 30 days after its expiry, and Bob's version
    assert await version_of(storage, caller(ALICE)) == NOW  # her devices know it
    assert (await storage.counts(NOW)).users == 1


async def test_a_closed_storage_is_unavailable(open_with: Open) -> None:
    storage, _ = open_with(StorageLimits())
    await storage.check()
    await storage.aclose()
    with pytest.raises(Unavailable):
        await storage.check()
    with pytest.raises(Unavailable):
        await storage.purge(NOW)
    await storage.aclose()
