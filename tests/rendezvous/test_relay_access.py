"""What the broker gives its users for relays, asked for over real HTTP; and the file with its key for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from peer.broker.client import RelayAccess
from peer.protocol import base64url, names
from peer.protocol.errors import Invalid, RateLimited, Unauthorized, Unavailable
from peer.protocol.relays.admission import TOKEN_LIFE_MS, RelayToken, open_token, pseudonym
from rendezvous.relay_access import named_relays
from rendezvous.relay_tokens import RelayKey, load_relay_key
from rendezvous.tokens import load_secrets
from tests.rendezvous.world import People, Person, Running, people_at, running_broker

RELAYS = ("https://relay.example", "http://127.0.0.1:9")


async def access(person: Person) -> RelayAccess:
    found = await person.client.relays()
    assert found is not None
    return found


def opened(running: Running, raw: bytes, device: str) -> RelayToken:
    """Open a token as a relay does that was told this broker's public key."""
    brokers = frozenset({running.broker.relay_key.public})
    return open_token(raw, brokers=brokers, device=device, now=running.clock())


async def test_a_token_is_the_signing_devices_for_a_day(tmp_path: Path) -> None:
    async with running_broker(tmp_path / "b", relays=RELAYS) as broker, people_at(broker, tmp_path / "p") as people:
        alice = await people.signed_in("alice@example.org")
        before = broker.clock()
        found = await access(alice)
        assert found.relays == RELAYS
        assert before + TOKEN_LIFE_MS <= found.expires <= broker.clock() + TOKEN_LIFE_MS
        token = opened(broker, found.token, alice.who.device)
        assert (token.device, token.expires) == (alice.who.device, found.expires)
        with pytest.raises(Exception, match="belongs to another device"):
            opened(broker, found.token, (await people.new("bob@example.org")).who.device)


async def test_a_user_counts_as_one_and_nobody_but_the_broker_can_tell_as_whom(tmp_path: Path) -> None:
    users: list[bytes] = []
    for name in ("one", "two"):
        key = RelayKey(name.encode().ljust(32))
        async with (
            running_broker(tmp_path / name, relay_key=key) as broker,
            people_at(broker, tmp_path / f"{name} people") as people,
        ):
            for email in ("alice@example.org", "bob@example.org"):
                person = await people.signed_in(email)
                tokens = [opened(broker, (await access(person)).token, person.who.device) for _ in range(2)]
                assert tokens[0].pseudonym == tokens[1].pseudonym
                users.append(tokens[0].pseudonym)
            public = broker.broker.relay_key.public
            assert not {pseudonym(known, "bob@example.org") for known in (b"", public, b"s" * 32)} & {*users}
    assert len({*users}) == 4


async def test_a_token_is_given_where_no_relay_is_named(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    found = await access(alice)
    assert found.relays == () and opened(broker, found.token, alice.who.device)


async def test_only_a_fresh_request_by_a_device_of_its_user_gets_one(broker: Running, people: People) -> None:
    alice, mallory = await people.signed_in("alice@example.org"), await people.new("mallory@example.org")
    with pytest.raises(Unauthorized, match="has not signed in"):
        await mallory.client.relays()
    body = alice.statement("relays.get", {})
    assert (await alice.raw("POST", "/v1/relays", body)).status_code == 200
    later = broker.clock() + 301_000
    for refused, code in (
        (body, 409),
        (mallory.statement("relays.get", {}, issuer_user="alice@example.org"), 403),
        (alice.statement("presence.withdraw", {"seq": 1}), 403),
        (alice.statement("relays.get", {"more": 1}), 422),
        (alice.statement("relays.get", {}, origin="https://broker.example"), 403),
        (alice.statement("relays.get", {}, created=later), 403),
        ({}, 422),
    ):
        response = await alice.raw("POST", "/v1/relays", refused, token=alice.client.token)
        assert response.status_code == code and "token" not in response.json(), response.text
    assert (await alice.raw("GET", "/v1/relays", token=alice.client.token)).status_code == 405


async def test_tokens_are_asked_for_as_often_as_other_writes(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    with pytest.raises(RateLimited):
        for _ in range(70):
            await alice.client.relays()


async def test_nothing_but_the_nonce_is_kept_of_it(broker: Running, people: People) -> None:
    alice = await people.signed_in("alice@example.org")
    before = broker.tables()
    await alice.client.relays()
    after = broker.tables()
    assert {name for name in after if after[name] != before[name]} == {"nonces"}


def test_relays_are_named_in_their_one_form() -> None:
    given = ["https://Relay.example/", "https://relay.example:443", "http://localhost:1"]
    assert named_relays(given, public_url="") == ("https://relay.example", "http://localhost:1")
    assert named_relays(given, public_url="http://127.0.0.1:8800") == ("https://relay.example", "http://localhost:1")
    many = [f"https://{number}.example" for number in range(8)]
    assert named_relays(many, public_url="https://broker.example") == tuple(many)


# --- the key


def test_the_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    secret = load_secrets(tmp_path, {}).current
    one, again = load_relay_key(tmp_path, {}), load_relay_key(tmp_path, {})
    assert one == again and one.public == bytes(SigningKey(one.seed).verify_key)
    assert (tmp_path / "relay.key").stat().st_mode & 0o777 == 0o600
    assert secret.decode() != one.seed.hex() and not {secret, secret[:32], bytes.fromhex(secret.decode())} & {one.seed}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jwt.secret", "relay.key"]
    (tmp_path / "jwt.secret").unlink()
    assert load_secrets(tmp_path, {}).current != secret and load_relay_key(tmp_path, {}) == one
    assert one.seed.hex() not in repr(one) and repr(one.seed) not in repr(one)


def test_the_key_is_in_the_folder_whatever_the_variable_says(tmp_path: Path) -> None:
    given = {"DISPATCH_JWT_SECRET": "x" * 64}
    assert load_secrets(tmp_path, given).current == b"x" * 64
    assert load_relay_key(tmp_path, given).seed != b"x" * 32
    assert [path.name for path in tmp_path.iterdir()] == ["relay.key"]


def spoil_by(text: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(text)


def into_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    ("spoil", "says", "fix"),
    [
        (lambda path: path.chmod(0o640), "other users can read", "chmod 600"),
        (spoil_by(b""), "damaged", "remove it"),
        (spoil_by(b"00" * 31), "damaged", "remove it"),
        (spoil_by(b"00" * 33), "damaged", "remove it"),
        (spoil_by(b"zz" * 32), "damaged", "remove it"),
        (spoil_by(b"\xff" * 64), "damaged", "remove it"),
        (into_a_pipe, "damaged", "remove it"),
    ],
    ids=["readable", "empty", "short", "long", "no digits", "no text", "a pipe"],
)
def test_a_key_that_is_not_as_it_was_made_is_not_used(
    tmp_path: Path, spoil: Callable[[Path], Any], says: str, fix: str
) -> None:
    load_relay_key(tmp_path, {})
    spoil(tmp_path / "relay.key")
    with pytest.raises(Invalid, match=says) as refused:
        load_relay_key(tmp_path, {})
    assert fix in refused.value.fix and "relay-key" in refused.value.fix


def test_two_that_make_the_key_at_once_get_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail where the one that comes second keeps the key that it had made."""
    link, first = os.link, list[RelayKey]()

    def beaten(source: str, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        first.append(load_relay_key(tmp_path, {}))
        link(source, target)

    monkeypatch.setattr(os, "link", beaten)
    assert [load_relay_key(tmp_path, {})] == first
    assert [path.name for path in tmp_path.iterdir()] == ["relay.key"]


def test_a_key_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail where it is written under its own name: who reads it then, or starts after a crash, has a half."""
    seen: list[bool] = []

    def full(_: int) -> None:
        seen.append((tmp_path / "relay.key").exists())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        load_relay_key(tmp_path, {})
    assert seen == [False] and list(tmp_path.iterdir()) == []


def test_a_secret_of_the_operators_own_is_kept_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "jwt.secret").write_bytes(b"a secret that somebody typed, with blanks\n")
    (tmp_path / "jwt.secret").chmod(0o600)
    assert load_secrets(tmp_path, {}).current == b"a secret that somebody typed, with blanks"


def test_a_secret_that_is_too_short_signs_nothing(tmp_path: Path) -> None:
    load_secrets(tmp_path, {})
    (tmp_path / "jwt.secret").write_bytes(b"x" * 31)
    with pytest.raises(Invalid, match="damaged") as refused:
        load_secrets(tmp_path, {})
    assert "everybody has to sign in again" in refused.value.fix


def test_the_parts_that_programs_depend_on(tmp_path: Path) -> None:
    """The same seed makes the same key and pseudonym in every version: relays have the one and count by the other."""
    (tmp_path / "relay.key").write_text("01" * 32)
    (tmp_path / "relay.key").chmod(0o600)
    key = load_relay_key(tmp_path, {})
    device = names.peer_id_text(b"\x00\x24\x08\x01\x12\x20" + key.public)
    raw = key.token(user_id="alice@example.org", device=device, expires=7)
    token = open_token(raw, brokers=frozenset({key.public}), device=device, now=7)
    assert base64url.encode(key.public) == "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w"
    assert token.pseudonym.hex() == "e21fd9af99d30915ea19a4302fe02ea3"
