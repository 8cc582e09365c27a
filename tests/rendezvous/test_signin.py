"""Signing in at a real broker over HTTP: the development flow, the bounds of the token, who may claim an address."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import jwt
import pytest

from peer.broker.client import BrokerClient, LoginToken
from peer.protocol import base64url, names
from peer.protocol.errors import Conflict, DispatchError, Forbidden, Gone, Unauthorized, Unavailable
from peer.protocol.relays.admission import open_token
from peer.protocol.signing import open_as, sign_by_root
from peer.protocol.statements import Device, DeviceSet
from rendezvous.tokens import LIFE_SECONDS
from tests.protocol.examples import listed
from tests.rendezvous.world import Clock, People, Person, Running, people_at, running_broker


async def test_the_whole_development_flow(broker: Running, people: People) -> None:
    alice = await people.new("alice@example.org")
    prompt = await alice.client.login_device(alice.who.device_set)
    assert prompt.verification_uri == f"{broker.url}/login"
    assert prompt.verification_uri_complete == f"{broker.url}/login?code={prompt.user_code}"
    assert await alice.client.login_token(prompt.device_code) == "authorization_pending"

    page = await alice.http.get(prompt.verification_uri_complete)
    assert "alice@example.org" in page.text and alice.who.device in page.text
    assert f"“{alice.who.name}” asks to sign in" in page.text
    assert "DEVELOPMENT BROKER" in page.text
    # The page's style is allowed by the hash of exactly what is in it, and nothing else is.
    assert "default-src 'none'" in page.headers["content-security-policy"] and "<script" not in page.text

    typed = f" {prompt.user_code.lower().replace('-', ' ')} "
    done = await alice.http.post(f"{broker.url}/login", data={"user_code": typed})
    assert done.status_code == 200 and "Signed in" in done.text
    broker.clock.move(seconds=2)
    token = await alice.client.login_token(prompt.device_code)
    assert isinstance(token, LoginToken)
    assert (token.user_id, token.expires_in) == ("alice@example.org", LIFE_SECONDS)
    claims = jwt.decode(token.access_token, options={"verify_signature": False})
    assert claims["cnf"] == {"kid": alice.who.device} and claims["aud"] == broker.url
    assert (await alice.client.invitations()).sent == []
    with pytest.raises(Gone):  # handed out once
        await alice.client.login_token(prompt.device_code)


async def test_polling_too_early_is_told_to_slow_down(broker: Running, people: People) -> None:
    alice = await people.new("alice@example.org")
    prompt = await alice.client.login_device(alice.who.device_set)
    assert await alice.client.login_token(prompt.device_code) == "authorization_pending"
    assert await alice.client.login_token(prompt.device_code) == "slow_down"
    broker.clock.move(seconds=prompt.interval + 5)
    assert await alice.client.login_token(prompt.device_code) == "authorization_pending"


async def test_a_code_ends_after_its_time(broker: Running, people: People) -> None:
    alice = await people.new("alice@example.org")
    prompt = await alice.client.login_device(alice.who.device_set)
    broker.clock.move(seconds=prompt.expires_in)
    with pytest.raises(Gone):
        await alice.client.login_token(prompt.device_code)
    late = await alice.http.post(f"{broker.url}/login", data={"user_code": prompt.user_code})
    assert late.status_code == 404


async def test_another_root_is_refused_early_and_at_approval(broker: Running, people: People) -> None:
    first, second = await people.new("alice@example.org"), await people.new("alice@example.org")
    prompts = [await p.client.login_device(p.who.device_set) for p in (first, second)]
    pages = [await first.http.post(f"{broker.url}/login", data={"user_code": p.user_code}) for p in prompts]
    assert [page.status_code for page in pages] == [200, 409]
    assert isinstance(await first.client.login_token(prompts[0].device_code), LoginToken)
    with pytest.raises(Forbidden, match="another root key"):
        await second.client.login_token(prompts[1].device_code)
    with pytest.raises(Conflict, match="another root key") as refused:
        await second.client.login_device(second.who.device_set)
    assert refused.value.fix
    await first.sign_in()  # the same root may, again


async def test_an_older_device_set_is_refused_and_a_newer_one_taken(
    broker: Running, people: People, tmp_path: Path
) -> None:
    alice = await people.signed_in("alice@example.org")
    root_seed = (tmp_path / "people" / "1" / "root.key").read_bytes()
    statement = DeviceSet(
        issuer_user="alice@example.org",
        id=names.uuid7(broker.clock(), bytes(10)),
        created=broker.clock(),
        root=alice.who.root,
        epoch=2,
        devices=(replace(listed(alice.who, counter=broker.clock() + 1), name="renamed"),),
    )
    await alice.client.login_device(sign_by_root(statement, root_seed).raw)
    newer = sign_by_root(statement, root_seed).raw
    prompt = await alice.client.login_device(newer)
    await alice.http.post(f"{broker.url}/login", data={"user_code": prompt.user_code})
    assert isinstance(await alice.client.login_token(prompt.device_code), LoginToken)
    with pytest.raises(Conflict, match="older list"):
        await alice.client.login_device(alice.who.device_set)


async def test_a_device_asks_in_its_own_name_only(broker: Running, people: People) -> None:
    alice, mallory = await people.new("alice@example.org"), await people.new("mallory@example.org")
    for arguments in (
        {"email": "alice@example.org", "device_set": alice.who.device_set},  # her set, his device
        {"email": "alice@example.org", "device_set": mallory.who.device_set},
    ):
        for claimed in ("alice@example.org", "mallory@example.org"):
            body = mallory.statement("login", arguments, issuer_user=claimed)
            response = await mallory.raw("POST", "/v1/login/device", body)
            assert response.status_code == 403, response.text
            assert response.headers["content-type"] == "application/problem+json"


async def test_a_form_posted_by_another_site_approves_nothing(broker: Running, people: People) -> None:
    alice = await people.new("alice@example.org")
    prompt = await alice.client.login_device(alice.who.device_set)
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        response = await alice.http.post(f"{broker.url}/login", data={"user_code": prompt.user_code}, headers=headers)
        assert response.status_code == 403
    same = {"origin": broker.url, "sec-fetch-site": "same-origin"}
    response = await alice.http.post(f"{broker.url}/login", data={"user_code": prompt.user_code}, headers=same)
    assert response.status_code == 200


@pytest.mark.parametrize("body", [b"", b"user_code", b"\xff=1", b"a=1&" * 20, b"user_code=" + b"x" * 5000])
async def test_a_broken_form_is_refused_politely(broker: Running, body: bytes) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=False) as http:
        response = await http.post(
            f"{broker.url}/login", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
        )
    assert response.status_code in (404, 413, 422) and "did not work" in response.text


async def test_without_mail_and_without_dev_nobody_signs_in(tmp_path: Path) -> None:
    async with running_broker(tmp_path / "b", dev=False) as running, people_at(running, tmp_path / "p") as people:
        alice = await people.new("alice@example.org")
        with pytest.raises(Unavailable, match="cannot send mail") as refused:
            await alice.client.login_device(alice.who.device_set)
        assert "--smtp-host" in refused.value.fix


async def test_a_token_of_another_secret_is_refused_with_the_fix(tmp_path: Path) -> None:
    clock = Clock()
    async with running_broker(tmp_path / "b", clock=clock) as running, people_at(running, tmp_path / "p") as people:
        alice = await people.signed_in("alice@example.org")
        token, port = alice.client.token, int(running.url.rpartition(":")[2])
    async with (
        running_broker(tmp_path / "b", clock=clock, secret=b"t" * 32, port=port) as running,
        BrokerClient(running.url, author=alice.who, token=token) as client,
    ):
        with pytest.raises(Unauthorized, match="DISPATCH_JWT_SECRET") as refused:
            await client.invitations()
        assert "dispatch login" in refused.value.fix
    # With the old secret again, the same token and the same users are still good: they are on disk.
    async with (
        running_broker(tmp_path / "b", clock=clock, port=port) as running,
        BrokerClient(running.url, author=alice.who, token=token) as client,
    ):
        assert (await client.invitations()).version == 0


async def test_malformed_tokens_are_refused_with_the_fix(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    good = alice.client.token
    head, claims, signature = good.split(".")
    none = base64url.encode(b'{"alg":"none","typ":"JWT"}')
    secret = b"s" * 32
    decoded = jwt.decode(good, options={"verify_signature": False})
    forged = [
        "x",
        "a.b.c",
        good[:-2],
        good + "x" * 5000,
        f"{none}.{claims}.",
        f"{none}.{claims}.{signature}",
        f"{head}.{base64url.encode(b'{}')}.{signature}",
        jwt.encode({**decoded, "aud": "http://elsewhere"}, secret),
        jwt.encode({**decoded, "iss": "http://elsewhere"}, secret),
        jwt.encode({k: v for k, v in decoded.items() if k != "cnf"}, secret),
        jwt.encode({**decoded, "cnf": {"kid": 7}}, secret),
        jwt.encode({**decoded, "exp": 1}, secret),
        jwt.encode(decoded, b"another secret of more than 32 bytes"),
    ]
    for token in forged:
        response = await alice.raw("GET", "/v1/invitations", token=token)
        assert response.status_code == 401, token
        assert response.json()["fix"].startswith("sign in again: `dispatch login")
    for header in ("", "Basic abc", "Bearer", good):
        response = await alice.http.get(f"{broker.url}/v1/invitations", headers={"authorization": header})
        assert response.status_code == 401


async def test_a_token_is_renewed_while_used_and_ends_unused(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    first = alice.client.token
    broker.clock.move(days=14)
    await alice.client.invitations()
    assert alice.renewed == []
    broker.clock.move(days=2)
    await alice.client.invitations()
    assert alice.renewed == [alice.client.token] and alice.client.token != first
    broker.clock.move(days=29)
    await alice.client.invitations()
    alice.client.token = first
    with pytest.raises(Unauthorized, match="expired"):
        await alice.client.invitations()


async def test_a_sign_in_survives_a_clock_that_was_ahead(broker: Running, people: People) -> None:
    """The broker's clock was weeks ahead, and every sign-in in use was renewed. Seen to fail (all had to sign in again)
    while a token's date of issue was compared."""
    alice = await people.signed_in("alice@example.org")
    broker.clock.move(days=20)
    await alice.client.invitations()
    broker.clock.move(days=-20)
    await alice.client.invitations()
    assert len(alice.renewed) == 2, "what lasts longer than a token should is renewed as well"
    ahead, now = alice.renewed
    broker.clock.move(days=31)
    alice.client.token = now
    with pytest.raises(Unauthorized, match="has expired"):
        await alice.client.invitations()
    broker.clock.move(days=-62)
    alice.client.token = ahead
    with pytest.raises(Unauthorized, match="dated later than the broker's clock") as refused:
        await alice.client.invitations()
    assert "dispatch login" in refused.value.fix


async def test_a_removed_device_loses_its_token(broker: Running, people: People, tmp_path: Path) -> None:
    alice = await people.signed_in("alice@example.org")
    of_alice = await alice.client.relays()
    other = await people.new("alice@example.org")
    root_seed = (tmp_path / "people" / "1" / "root.key").read_bytes()
    statement = DeviceSet(
        issuer_user="alice@example.org",
        id=names.uuid7(broker.clock(), bytes(10)),
        created=broker.clock(),
        root=alice.who.root,
        epoch=2,
        devices=(listed(other.who, root=alice.who.root),),
    )
    prompt = await other.client.login_device(sign_by_root(statement, root_seed).raw)
    await other.http.post(f"{broker.url}/login", data={"user_code": prompt.user_code})
    assert isinstance(await other.client.login_token(prompt.device_code), LoginToken)
    with pytest.raises(Forbidden, match="no longer one of"):
        await alice.client.invitations()
    with pytest.raises(Forbidden, match="no longer one of"):
        await alice.client.put_presence(seq=1, expires=broker.clock() + 60_000, box=b"x")
    with pytest.raises(Forbidden, match="no longer one of"):
        await alice.client.relays()
    of_other = await other.client.relays()
    assert of_alice is not None and of_other is not None
    counted = [
        open_token(access.token, brokers=brokers, device=person.who.device, now=broker.clock()).pseudonym
        for brokers in [frozenset({broker.broker.relay_key.public})]
        for access, person in ((of_alice, alice), (of_other, other))
    ]
    assert counted[0] == counted[1]  # all devices of a user are one user to a relay


def set_of(person: Person, folder: Path, *entries: Device, epoch: int = 2) -> bytes:
    """A device-set of a person with these devices, signed with the root key in `folder`."""
    statement, _ = open_as(DeviceSet, person.who.device_set)
    root_seed = (folder / "root.key").read_bytes()
    return sign_by_root(replace(statement, epoch=epoch, devices=entries), root_seed).raw


async def test_nobody_lists_a_device_that_did_not_sign_for_it(people: People, tmp_path: Path) -> None:
    """Seen to fail without the check of memberships: Mallory's set with Alice's device was taken."""
    alice, mallory = await people.signed_in("alice@example.org"), await people.signed_in("mallory@example.org")
    folder = tmp_path / "people" / "2"
    theirs = open_as(DeviceSet, alice.who.device_set)[0].devices[0]
    for entry in (theirs, replace(theirs, membership=listed(mallory.who).membership)):
        with pytest.raises(DispatchError, match="lists a device") as refused:
            await mallory.client.login_device(set_of(mallory, folder, listed(mallory.who), entry))
        assert refused.value.code == 403
    await alice.client.invitations()


async def test_a_sold_device_is_its_new_owners(broker: Running, people: People, tmp_path: Path) -> None:
    """Its newest membership holds: the former owner's list does not get it back. Seen to fail without the counter."""

    async def sign_in(person: Person, device_set: bytes) -> None:
        prompt = await person.client.login_device(device_set)
        await person.http.post(f"{broker.url}/login", data={"user_code": prompt.user_code})
        assert isinstance(await person.client.login_token(prompt.device_code), LoginToken)

    alice, bob = await people.signed_in("alice@example.org"), await people.signed_in("bob@example.org")
    laptop = (await people.new("alice@example.org")).who
    hers = listed(laptop, root=alice.who.root, counter=1)
    await sign_in(alice, set_of(alice, tmp_path / "people" / "1", listed(alice.who), hers))
    his = listed(laptop, user="bob@example.org", root=bob.who.root, counter=2)
    await sign_in(bob, set_of(bob, tmp_path / "people" / "2", listed(bob.who), his))

    def owners() -> list[tuple[object, ...]]:
        return sorted(broker.tables()["devices"])

    expected = [("alice@example.org", alice.who.device), ("bob@example.org", bob.who.device)]
    expected = sorted([*expected, ("bob@example.org", laptop.device)])
    assert owners() == expected
    await sign_in(alice, set_of(alice, tmp_path / "people" / "1", listed(alice.who), hers, epoch=3))
    assert owners() == expected
