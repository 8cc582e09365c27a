"""Announcing, looking up and forgetting sealed presence at a real broker."""

from __future__ import annotations

import pytest

from peer.broker.client import SealedPresence
from peer.protocol.errors import Invalid, TooLarge
from rendezvous.presence import MAX_BOX, MAX_TTL_MS
from tests.rendezvous.world import People, Person, Running


async def test_announced_found_and_withdrawn(broker: Running, people: People) -> None:
    alice, bob = await people.signed_in("alice@example.org"), await people.signed_in("bob@example.org")
    expires = broker.clock() + 3_600_000
    box = bytes(range(256)) * 300
    after = await alice.client.put_presence(seq=7, expires=expires, box=box)
    assert 1400 < after < 2200  # half of the hour, jittered
    assert await bob.client.get_presence(" Alice@Example.org ") == [SealedPresence(alice.who.device, 7, expires, box)]
    await alice.client.withdraw_presence(seq=8)
    assert await bob.client.get_presence("alice@example.org") == []


async def test_a_device_is_told_which_announcement_of_its_own_is_kept(broker: Running, people: People) -> None:
    """So it notices that one was lost. Seen to fail where the answers without a change did not say it."""
    alice, bob = await people.signed_in("alice@example.org"), await people.signed_in("bob@example.org")

    async def announced(person: Person) -> list[int | None]:
        """What it says with all changes, and without any."""
        changes = await person.client.invitations()
        return [changes.announced, (await person.client.invitations(version=changes.version)).announced]

    assert await announced(alice) == [0, 0]
    await alice.client.post_invitation(alice.signed_invitation("carol@example.org"))
    await alice.client.put_presence(seq=7, expires=broker.clock() + 3_600_000, box=b"x")
    assert await announced(alice) == [7, 7]
    assert await announced(bob) == [0, 0]
    broker.clock.move(seconds=3600)
    assert await announced(alice) == [0, 0]  # it has ended
    await alice.client.put_presence(seq=8, expires=broker.clock() + 3_600_000, box=b"x")
    assert await announced(alice) == [8, 8]
    await alice.client.withdraw_presence(seq=9)
    assert await announced(alice) == [0, 0]


async def test_unknown_and_absent_users_look_alike(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    await people.signed_in("bob@example.org")
    absent, unknown = [
        await alice.raw("GET", f"/v1/presence/{user}", token=alice.client.token)
        for user in ("bob@example.org", "nobody@example.org")
    ]
    assert (absent.status_code, absent.content) == (unknown.status_code, unknown.content) == (200, b'{"devices":[]}')
    assert absent.headers.keys() == unknown.headers.keys()
    stranger = await alice.raw("GET", "/v1/presence/bob@example.org")
    assert stranger.status_code == 401


async def test_presence_ends_and_never_lasts_longer_than_two_hours(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    now = broker.clock()
    await alice.client.put_presence(seq=1, expires=now + 10 * MAX_TTL_MS, box=b"x")
    (entry,) = await alice.client.get_presence("alice@example.org")
    assert now + MAX_TTL_MS <= entry.expires <= broker.clock() + MAX_TTL_MS
    broker.clock.move(seconds=MAX_TTL_MS / 1000)
    assert await alice.client.get_presence("alice@example.org") == []
    with pytest.raises(Invalid, match="already expired"):
        await alice.client.put_presence(seq=2, expires=broker.clock() - 1, box=b"x")


async def test_the_size_of_a_box_is_bounded(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    expires = broker.clock() + 60_000
    await alice.client.put_presence(seq=1, expires=expires, box=bytes(MAX_BOX))
    with pytest.raises(TooLarge, match=str(MAX_BOX)):
        await alice.client.put_presence(seq=2, expires=expires, box=bytes(MAX_BOX + 1))
    assert [entry.seq for entry in await alice.client.get_presence("alice@example.org")] == [1]


async def test_a_lookup_of_what_is_no_address_is_refused(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    for user in ("x", "a@b@c", "%00@b", "x" * 300 + "@b"):
        response = await alice.raw("GET", f"/v1/presence/{user}", token=alice.client.token)
        assert response.status_code == 422, user
