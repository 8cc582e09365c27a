"""A real daemon whose keychain fails: it lives on, and says what is missing where it is needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system.world import Person, eventually

Pair = tuple[Person, Person]


@pytest.fixture
def without(pair: Pair) -> Iterator[Pair]:
    """(alice, bob), Bob's key in a keychain on a bus that is not there."""
    _, bob = pair
    before, config = dict(bob.environment), bob.state.config.read_bytes()
    bob.stop()
    bob.environment |= {
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent",
        "PYTHON_KEYRING_BACKEND": "keyring.backends.SecretService.Keyring",
    }
    bob.configure(runtime="claude", model={"api_key": "keychain"})
    bob.start()
    yield pair
    bob.stop()
    bob.environment = before
    bob.state.write_private(bob.state.config, config)
    bob.start()


def test_a_keychain_that_fails_ends_no_daemon(without: Pair) -> None:
    """Seen to fail with the backend's own exception let through: the daemon died of it after it had come up."""
    alice, bob = without
    told = eventually(lambda: "keychain failed" in bob.client.whoami()["runtime"]["login_fix"], what="the trouble")
    assert told and bob.up
    dispatch_id = alice.client.send(bob.email, "Say hello.")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    error = bob.refused("accept", dispatch_id)
    assert error["code"] == 503 and "keychain" in error["message"] and "dispatch config set" in error["fix"]
    assert bob.client.dispatch(dispatch_id)["status"] == "pending" and bob.up
