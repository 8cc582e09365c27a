"""The settings `relays` and `relay_token`: what is taken, in which form, and that the secret stays one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peer.machine import settings as config
from peer.machine.settings import MASK, Settings
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Invalid
from peer.protocol.relays.messages import MAX_TOKEN

EIGHT = [f"https://{number}.example" for number in range(8)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ["broker"]),
        ("broker", ["broker"]),
        ("none", ["none"]),
        ("https://relay.example", ["https://relay.example"]),
        (" broker , HTTPS://Relay.Example:443/ ", ["broker", "https://relay.example"]),
        ("https://relay.example,broker,https://relay.example/,broker", ["https://relay.example", "broker"]),
        ("http://127.0.0.1:9,http://localhost", ["http://127.0.0.1:9", "http://localhost"]),
        ("https://[2001:db8::1]:8443", ["https://[2001:db8::1]:8443"]),
        (",".join(["broker", *EIGHT]), ["broker", *EIGHT]),
    ],
)
def test_relays_are_kept_in_their_one_form(tmp_path: Path, text: str, value: list[str]) -> None:
    folder = StateFolder(tmp_path / "state")
    config.save(folder, config.set_value(Settings(relays=("none",)), "relays", text))
    assert config.get_value(config.load(folder), "relays") == value


@pytest.mark.parametrize(
    ("text", "says", "fix"),
    [
        ("relay.example", "'relay.example' is not a relay's address", "write it like https://relay.example"),
        ("http://relay.example", "does not use TLS", "write it like https://relay.example"),
        ("broker,https://relay.example/path", "is not a relay's address", "write it like https://relay.example"),
        ("wss://relay.example", "is not a relay's address", "write it like https://relay.example"),
        ("all", "'all' is not a relay's address", "write it like https://relay.example"),
        ("none,broker", "'none,broker'", "run `dispatch config set relays none`, or remove none"),
        ("https://relay.example,none", "none'", "run `dispatch config set relays none`, or remove none"),
        (",", "relays can't be", "relays must be the relays for devices"),
        (",".join([*EIGHT, "https://ninth.example"]), "relays can't be", "up to 8 of your own choice"),
    ],
)
def test_what_is_no_relay_is_refused_with_its_fix(text: str, says: str, fix: str) -> None:
    with pytest.raises(Invalid) as refused:
        config.set_value(Settings(), "relays", text)
    assert says in refused.value.message and fix in refused.value.fix


@pytest.mark.parametrize("words", [[], ["http://relay.example"], ["none", "broker"], "broker", [7]])
def test_a_file_with_other_relays_is_refused(tmp_path: Path, words: object) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    folder.config.write_text(json.dumps({"relays": words}))
    folder.config.chmod(0o600)
    with pytest.raises(Invalid) as refused:
        config.load(folder)
    assert refused.value.fix


def test_the_secret_of_ones_own_relay_is_masked_and_bounded(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    longest = "s" * MAX_TOKEN
    config.save(folder, config.set_value(Settings(), "relay_token", longest))
    saved = config.load(folder)
    assert saved.relay_token == longest and config.shown(saved)["relay_token"] == MASK
    assert folder.config.stat().st_mode & 0o077 == 0
    for wrong in (longest + "s", "two words", "secret\u00e9"):
        with pytest.raises(Invalid) as refused:
            config.set_value(Settings(), "relay_token", wrong)
        assert wrong not in refused.value.message + refused.value.fix


def test_another_broker_leaves_the_persons_own_relays_as_they_are() -> None:
    before = Settings(broker="https://a.example", token="t", relays=("https://relay.example",), relay_token="s")
    after = config.set_value(before, "broker", "https://b.example")
    assert (after.token, after.relays, after.relay_token) == ("", ("https://relay.example",), "s")
