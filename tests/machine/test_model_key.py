"""Where the model's key is kept, and what is said when it cannot be had."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from peer.machine import keychains, model_key, settings
from peer.machine.settings import Settings
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Invalid, Unavailable
from tests.conftest import HANG
from tests.machine.test_identity import FakeKeychain

KEY = "sk-made-up-1"


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    state = StateFolder(tmp_path / "state")
    state.create()
    return state


def given(key: str = KEY) -> Settings:
    return settings.set_value(Settings(), "model.api_key", key)


def test_a_keychain_keeps_it_and_config_json_does_not(folder: StateFolder) -> None:
    """Seen to fail with the key left in config.json beside the keychain."""
    ring = FakeKeychain()
    model_key.save(folder, given(), find=lambda: ring)
    assert KEY not in folder.config.read_text()
    (((service, account), kept),) = ring.kept.items()
    assert (service, kept) == ("dispatch-courier", KEY) and str(folder.path) in account
    in_force = model_key.in_force(folder, env={}, find=lambda: ring)
    assert in_force.model.api_key == KEY and not in_force.model.key_problem
    model_key.require(in_force)
    assert model_key.reveal(folder, settings.load(folder), find=lambda: ring) == KEY
    # Another state folder of the same person has its own.
    other = StateFolder(folder.path.parent / "other")
    other.create()
    model_key.save(other, given("sk-made-up-2"), find=lambda: ring)
    assert model_key.in_force(folder, env={}, find=lambda: ring).model.api_key == KEY
    # Taken back, it is gone from the keychain too.
    model_key.save(folder, given(""), find=lambda: ring)
    assert list(ring.kept.values()) == ["sk-made-up-2"] and not settings.load(folder).model.api_key


@pytest.mark.parametrize(
    "ring", [None, FakeKeychain(fails=RuntimeError("locked")), FakeKeychain(forgets=True)], ids=["no", "fails", "loses"]
)
def test_without_a_keychain_config_json_keeps_it(folder: StateFolder, ring: FakeKeychain | None) -> None:
    model_key.save(folder, given(), find=lambda: ring)
    assert json.loads(folder.config.read_text())["model"] == {"api_key": KEY}
    assert folder.config.stat().st_mode & 0o777 == 0o600
    assert model_key.in_force(folder, env={}, find=lambda: ring).model.api_key == KEY


def test_the_environment_counts_before_it(folder: StateFolder) -> None:
    ring = FakeKeychain()
    model_key.save(folder, given(), find=lambda: ring)
    ring.fails = RuntimeError("not even asked")
    assert model_key.in_force(folder, env={"ANTHROPIC_API_KEY": "sk-2"}, find=lambda: ring).model.api_key == "sk-2"


@pytest.mark.parametrize("how", ["none", "fails", "empty", "silent"])
def test_a_keychain_that_does_not_give_it_is_a_missing_key(
    folder: StateFolder, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with the word `keychain` passed on as if it were the key."""
    ring = FakeKeychain()
    model_key.save(folder, given(), find=lambda: ring)
    release = threading.Event()

    class Silent(FakeKeychain):
        def get_password(self, service: str, username: str, /) -> str | None:
            release.wait(HANG)
            return KEY

    monkeypatch.setattr(keychains, "SECONDS", 0.05)
    ways: dict[str, FakeKeychain | None] = {
        "none": None,
        "fails": FakeKeychain(fails=RuntimeError("locked")),
        "empty": FakeKeychain(),
        "silent": Silent(),
    }
    try:
        in_force = model_key.in_force(folder, env={}, find=lambda: ways[how])
    finally:
        release.set()
    assert in_force.model.api_key == "" and "keychain" in in_force.model.key_problem
    with pytest.raises(Unavailable, match="keychain") as refused:
        model_key.require(in_force)
    assert "model.api_key" in refused.value.fix and "ANTHROPIC_API_KEY" in refused.value.fix
    assert KEY not in str(refused.value)


def test_a_keychain_that_was_not_asked_yet_is_no_key(folder: StateFolder) -> None:
    """Seen to fail with the word `keychain` taken for a key: the node starts before its keychain answers."""
    ring = FakeKeychain()
    model_key.save(folder, given(), find=lambda: ring)
    with pytest.raises(Unavailable, match="has not returned"):
        model_key.require(settings.resolve(folder, env={}))


def test_what_is_wrong_with_it_is_in_no_file(folder: StateFolder) -> None:
    folder.write_private(folder.config, b'{"model": {"key_problem": "x"}}')
    with pytest.raises(Invalid, match="unknown key"):
        settings.load(folder)
