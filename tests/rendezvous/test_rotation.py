"""Replacing the secret of sign-in tokens: nobody has to sign in again, and in the end the one before opens nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from peer.broker.client import BrokerClient
from peer.protocol.errors import Conflict, Invalid, Unauthorized
from rendezvous import rotation
from rendezvous.broker import wall_clock
from rendezvous.private_files import make_private
from rendezvous.relay_tokens import load_relay_key
from rendezvous.tokens import FALLBACK_FILE, SECRET_FILE, Tokens, TokenSecrets, load_secrets
from tests.rendezvous.test_backup import person, run
from tests.rendezvous.test_main import process, sign_in
from tests.rendezvous.world import people_at, running_broker

ORIGIN = "https://broker.example"
OLD, NEW = b"o" * 32, b"n" * 32


def tokens(secrets: TokenSecrets) -> Tokens:
    return Tokens(secrets, origin=ORIGIN, clock=wall_clock)


def test_a_token_by_the_fallback_is_taken_and_renewed_by_the_current_secret() -> None:
    token = tokens(TokenSecrets(OLD)).issue("alice@example.org", "device")
    assert tokens(TokenSecrets(OLD)).check(f"Bearer {token}").renewed == ""
    bearer = tokens(TokenSecrets(NEW, OLD)).check(f"Bearer {token}")
    assert (bearer.user_id, bearer.device) == ("alice@example.org", "device")
    assert tokens(TokenSecrets(NEW)).check(f"Bearer {bearer.renewed}").renewed == ""
    for secrets in (TokenSecrets(NEW), TokenSecrets(NEW, b"x" * 32)):
        with pytest.raises(Unauthorized, match="DISPATCH_JWT_SECRET may have changed"):
            tokens(secrets).check(f"Bearer {token}")


async def test_a_device_gets_a_new_token_as_it_reads(tmp_path: Path) -> None:
    async with running_broker(tmp_path / "b", secret=OLD) as broker, people_at(broker, tmp_path / "p") as people:
        alice = await people.signed_in("alice@example.org")
        token, port = alice.client.token, int(broker.url.rpartition(":")[2])
    async with (
        running_broker(tmp_path / "b", secret=NEW, fallback=OLD, port=port) as broker,
        people_at(broker, tmp_path / "q") as people,
    ):
        again = await people.new("alice@example.org", who=alice.who)
        again.client.token = token
        await again.client.invitations()
        assert len(again.renewed) == 1
        await again.client.invitations()
        assert len(again.renewed) == 1  # the new one is as it should be
    async with (
        running_broker(tmp_path / "b", secret=NEW, port=port),
        BrokerClient(broker.url, author=alice.who) as late,
    ):
        late.token = again.renewed[0]
        await late.invitations()
        late.token = token
        with pytest.raises(Unauthorized):
            await late.invitations()


async def test_the_secret_in_the_data_folder_is_replaced_step_by_step(tmp_path: Path) -> None:
    """The operator's way, with a broker that is restarted after each step."""
    who, data = person(tmp_path, "alice"), tmp_path / "data"

    async def reads(url: str, token: str) -> str:
        """Return the token that the device has afterwards."""
        renewed: list[str] = []
        async with BrokerClient(url, author=who, token=token, on_token=renewed.append) as client:
            await client.invitations()
        return renewed[-1] if renewed else token

    with process(data, "--dev", "--port", "0") as (_, url):
        port = url.rpartition(":")[2]
        async with BrokerClient(url, author=who) as client:
            await sign_in(client, who.device_set)
            first = client.token
        said = run("rotate-secret", "--data", data)
        assert "restart the broker" in said and "in 30 days" in said
        assert await reads(url, first) == first  # it has read its secret at its start
    assert "is under way since" in run("rotate-secret", "--data", data, status=1)
    for name in (SECRET_FILE, FALLBACK_FILE):
        assert (data / name).stat().st_mode & 0o777 == 0o600
    with process(data, "--dev", "--port", port):
        second = await reads(url, first)
        assert second != first and await reads(url, second) == second
    assert "have to sign in again" in run("rotate-secret", "--end", "--data", data)
    assert "no rotation is under way" in run("rotate-secret", "--end", "--data", data, status=1)
    with process(data, "--dev", "--port", port):
        assert await reads(url, second) == second
        with pytest.raises(Unauthorized):
            await reads(url, first)
    run("rotate-secret", "--data", data)
    assert "everybody has to sign in again" in run("rotate-secret", "--at-once", "--data", data)
    with process(data, "--dev", "--port", port), pytest.raises(Unauthorized):
        await reads(url, second)
    assert sorted(path.name for path in data.iterdir() if path.name.startswith("jwt")) == [SECRET_FILE]


def test_one_that_stopped_half_way_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    before = load_secrets(tmp_path, {})
    assert before.fallback == b""

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rotation, "make_private", stopped)
        with pytest.raises(KeyboardInterrupt):
            rotation.begin(tmp_path)
    assert load_secrets(tmp_path, {}) == TokenSecrets(before.current, before.current)
    rotation.begin(tmp_path)
    after = load_secrets(tmp_path, {})
    assert after.fallback == before.current != after.current
    with pytest.raises(Conflict):
        rotation.begin(tmp_path)
    assert load_secrets(tmp_path, {}) == after


def test_which_secrets_are_meant(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    make_private(tmp_path / SECRET_FILE, b"f" * 32)
    make_private(tmp_path / FALLBACK_FILE, b"g" * 32)
    current, fallback = "DISPATCH_JWT_SECRET", "DISPATCH_JWT_SECRET_FALLBACK"
    assert load_secrets(tmp_path, {}) == TokenSecrets(b"f" * 32, b"g" * 32)
    assert load_secrets(tmp_path, {current: "n" * 32}) == TokenSecrets(NEW)
    assert load_secrets(tmp_path, {current: "n" * 32, fallback: "o" * 32}) == TokenSecrets(NEW, OLD)
    assert load_secrets(tmp_path, {fallback: "o" * 32}) == TokenSecrets(b"f" * 32, OLD)
    with pytest.raises(Invalid, match=f"{fallback} has 5 bytes"):
        load_secrets(tmp_path, {current: "n" * 32, fallback: "short"})
    assert "n" * 32 not in repr(TokenSecrets(NEW, OLD)) and "o" * 32 not in repr(TokenSecrets(NEW, OLD))
    (tmp_path / FALLBACK_FILE).chmod(0o644)
    with pytest.raises(Invalid, match="other users can read"):
        load_secrets(tmp_path, {})


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (("--data", "nothing"), {}, "there is no data folder"),
        (("--data", "there", "--end", "--at-once"), {}, "give one of them"),
        (("--data", "there"), {"DISPATCH_JWT_SECRET": "x" * 32}, "$DISPATCH_JWT_SECRET_FALLBACK"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    variables: dict[str, Any],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir(mode=0o700)
    said = run("rotate-secret", *arguments, status=2, **variables)
    assert says in said and "fix: " in said
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


# --- the key for relays, which several brokers share


def test_the_key_for_relays_can_be_given(tmp_path: Path) -> None:
    """Seen to print the folder's own key without it."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o700)
    key = load_relay_key(shared, {})
    given: dict[str, Any] = {"DISPATCH_RELAY_KEY": (shared / "relay.key").read_text()}
    assert load_relay_key(tmp_path / "nowhere", given) == key
    printed = run("relay-key", "--data", tmp_path / "nowhere", **given)
    assert printed == run("relay-key", "--data", shared) and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("given", ["x" * 64, "ab" * 31, "ab" * 33, "é" * 32])
def test_a_variable_that_is_no_key_is_refused(tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        raise AssertionError("it started to serve")

    monkeypatch.setattr("rendezvous.serving.serve", never)
    data = tmp_path / "data"
    for command in (["serve", "--dev", "--port", "0"], ["relay-key"]):
        said = run(*command, "--data", data, status=2, DISPATCH_RELAY_KEY=given)
        assert "DISPATCH_RELAY_KEY is no key" in said and "fix: " in said and given not in said
    assert not (data / "relay.key").exists()
