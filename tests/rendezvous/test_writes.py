"""Every write is signed by the device, for this broker, for now, once: what is not so is refused over real HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from peer.protocol import base64url
from peer.protocol.errors import Conflict, Unauthorized
from tests.rendezvous.world import People, Person, Running

Arguments = dict[str, Any]


def presence(running: Running, seq: int = 1) -> Arguments:
    return {"seq": seq, "expires": running.clock() + 3_600_000, "box": b"sealed"}


async def present(person: Person) -> list[int]:
    return [entry.seq for entry in await person.client.get_presence(person.who.user_id)]


async def test_a_stolen_token_can_write_nothing(broker: Running, people: People) -> None:
    alice, mallory = await people.signed_in("alice@example.org"), await people.new("mallory@example.org")
    token = alice.client.token
    # Mallory has Alice's token and keys of their own.
    attempts = [
        ("PUT", "/v1/presence", "presence.put", presence(broker)),
        ("DELETE", "/v1/presence", "presence.withdraw", {"seq": 9}),
        ("POST", "/v1/invitations", "invitations.post", {"invitation": mallory.signed_invitation("bob@example.org")}),
    ]
    for method, path, action, arguments in attempts:
        as_self = mallory.statement(action, arguments)
        as_alice = mallory.statement(action, arguments, issuer_user="alice@example.org")
        for body, code in ((as_self, 401), (as_alice, 403), ({}, 422)):
            response = await mallory.raw(method, path, body, token=token)
            assert response.status_code == code, (path, response.text)
    assert await present(alice) == []
    assert (await alice.client.invitations()).sent == []


async def test_the_same_request_is_taken_once(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    body = alice.statement("presence.put", presence(broker))
    assert (await alice.raw("PUT", "/v1/presence", body)).status_code == 204
    again = await alice.raw("PUT", "/v1/presence", body)
    assert again.status_code == 409 and "already used" in again.json()["detail"]
    await alice.client.withdraw_presence(seq=2)
    for minute in range(1, 13):  # at every moment until the window has closed, and after
        broker.clock.move(seconds=60)
        await broker.broker.storage.purge(broker.clock())
        replayed = await alice.raw("PUT", "/v1/presence", body)
        # It must be the nonce that refuses: another write has no seq that would.
        says = "already used" if minute < 5 else "behind the broker's clock"
        assert says in replayed.json()["detail"], minute
    assert await present(alice) == []


@pytest.mark.parametrize("seconds", [-301, 301, -86_400, 10 * 365 * 86_400])
async def test_a_request_of_another_time_is_refused(broker: Running, people: People, seconds: int) -> None:
    alice = await people.signed_in("alice@example.org")
    body = alice.statement("presence.put", presence(broker), created=broker.clock() + seconds * 1000)
    response = await alice.raw("PUT", "/v1/presence", body)
    assert response.status_code == 403 and response.json()["fix"] == "set this machine's clock"


@pytest.mark.parametrize(
    "origin", ["http://127.0.0.1:1", "https://broker.example", "http://localhost", "", "{url}/", "{url}x", "{URL}"]
)
async def test_a_request_for_another_broker_is_refused(broker: Running, people: People, origin: str) -> None:
    alice = await people.signed_in("alice@example.org")
    other = origin.format(url=broker.url, URL=broker.url.upper())
    response = await alice.raw("PUT", "/v1/presence", alice.statement("presence.put", presence(broker), origin=other))
    assert response.status_code == 403 and broker.url in response.json()["fix"]
    assert await present(alice) == []


async def test_a_request_for_another_action_is_refused(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    await alice.client.put_presence(seq=1, expires=broker.clock() + 60_000, box=b"x")
    for body in (
        alice.statement("presence.put", {"seq": 2}),
        alice.statement("login", {"seq": 2}),
        alice.statement("presence.withdraw", {"seq": 2, "more": 1}),
        alice.statement("presence.withdraw", {}),
        alice.statement("presence.withdraw", {"seq": "2"}),
        alice.statement("presence.withdraw", {"seq": True}),
        alice.statement("presence.withdraw", {"seq": -1}),
        alice.statement("presence.withdraw", {"seq": 1 << 53}),
    ):
        response = await alice.raw("DELETE", "/v1/presence", body)
        assert response.status_code in (403, 422), response.text
    assert await present(alice) == [1]


async def test_any_altered_byte_is_refused(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    raw = base64url.decode(alice.statement("presence.put", presence(broker))["statement"])
    for position in range(0, len(raw), 7):
        altered = bytearray(raw)
        altered[position] ^= 1 << position % 8
        response = await alice.raw("PUT", "/v1/presence", {"statement": base64url.encode(bytes(altered))})
        assert response.status_code in (403, 413, 415, 422), position
    assert await present(alice) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: {},
        lambda body: [],
        lambda body: None,
        lambda body: {"statement": 7},
        lambda body: {"statement": ""},
        lambda body: {"statement": body["statement"] + "="},
        lambda body: {"statement": body["statement"] + "\n"},
        lambda body: {"statement": "!" + body["statement"]},
        lambda body: {**body, "more": 1},
        lambda body: {"statement": body["statement"][:-4]},
    ],
)
async def test_another_body_is_refused(broker: Running, people: People, spoil: Callable[[Any], Any]) -> None:
    alice = await people.signed_in("alice@example.org")
    response = await alice.raw("PUT", "/v1/presence", spoil(alice.statement("presence.put", presence(broker))))
    assert response.status_code == 422
    assert set(response.json()) == {"type", "title", "status", "detail", "code", "fix"}


async def test_who_never_signed_in_can_write_nothing(broker: Running, people: People) -> None:
    bob = await people.new("bob@example.org")
    with pytest.raises(Unauthorized, match="has not signed in"):
        await bob.client.put_presence(seq=1, expires=broker.clock() + 60_000, box=b"x")
    with pytest.raises(Unauthorized):
        await bob.client.get_presence("bob@example.org")


async def test_a_refused_write_does_not_use_up_its_nonce(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    await alice.client.put_presence(seq=5, expires=broker.clock() + 60_000, box=b"x")
    stale = alice.statement("presence.put", presence(broker, seq=5))
    for _ in range(2):  # refused for its seq both times: the transaction kept nothing of the first
        response = await alice.raw("PUT", "/v1/presence", stale)
        assert response.status_code == 409 and "newer announcement" in response.json()["detail"]


async def test_two_devices_cannot_use_up_each_others_nonces(broker: Running, people: People) -> None:
    alice, bob = await people.signed_in("alice@example.org"), await people.signed_in("bob@example.org")
    nonce = alice.invitation("x@example.org").id
    for person, code in ((bob, 204), (alice, 204), (bob, 409)):
        body = person.statement("presence.put", presence(broker, seq=broker.clock()), id=nonce)
        assert (await person.raw("PUT", "/v1/presence", body)).status_code == code


async def test_seq_must_grow(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    expires = broker.clock() + 60_000
    await alice.client.put_presence(seq=5, expires=expires, box=b"five")
    for seq in (5, 4):
        with pytest.raises(Conflict):
            await alice.client.put_presence(seq=seq, expires=expires, box=b"old")
        with pytest.raises(Conflict):
            await alice.client.withdraw_presence(seq=seq)
    await alice.client.withdraw_presence(seq=6)
    with pytest.raises(Conflict):
        await alice.client.put_presence(seq=6, expires=expires, box=b"old")
    assert await present(alice) == []
