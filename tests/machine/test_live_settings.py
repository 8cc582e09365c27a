"""The settings in force while a node runs: above all, that nothing waits for a keychain, and no older answer wins."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing

from peer.machine import model_key, settings
from peer.machine.keychains import Keychain
from peer.machine.live_settings import LiveSettings
from peer.machine.settings import KEY_IN_KEYCHAIN
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Invalid, Unavailable
from tests.conftest import HANG
from tests.machine.test_identity import FakeKeychain
from tests.machine.test_model_key import KEY, folder, given

__all__ = ["folder"]


class Slow(FakeKeychain):
    """A keychain that asks its person: each question is answered when the test says so, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.answers: list[threading.Event] = []

    def get_password(self, service: str, username: str, /) -> str | None:
        kept = super().get_password(service, username)
        answer = threading.Event()
        self.answers.append(answer)
        self.asked.release()
        assert answer.wait(HANG)
        return kept


@asynccontextmanager
async def in_force(folder: StateFolder, ring: Keychain | None) -> AsyncIterator[LiveSettings]:
    made = LiveSettings(folder, find=lambda: ring)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.testing.wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()


async def was_asked(ring: Slow) -> None:
    assert await trio.to_thread.run_sync(lambda: ring.asked.acquire(timeout=HANG))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peer.machine.live_settings.KEYCHAIN_SECONDS", 0.1)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)


@pytest.fixture
def slow(folder: StateFolder) -> Slow:
    """A slow keychain that has the key."""
    ring, quick = Slow(), FakeKeychain()
    model_key.save(folder, given(), find=lambda: quick)
    ring.kept = quick.kept
    return ring


async def test_a_node_begins_without_its_keychain_and_has_the_key_when_it_answers(
    folder: StateFolder, slow: Slow
) -> None:
    async with in_force(folder, slow) as kept:
        await was_asked(slow)
        with pytest.raises(Unavailable, match="has not returned"):
            await kept.require_key()
        assert len(slow.answers) == 1, "whoever accepts meanwhile does not ask it once more"
        slow.answers[0].set()
        with trio.fail_after(HANG):
            while not model_key.usable(kept.current):
                await trio.sleep(0.01)
        await kept.require_key()
        assert kept.current.model.api_key == KEY


async def test_a_reload_waits_for_no_keychain_and_keeps_the_key_until_it_answers(
    folder: StateFolder, slow: Slow
) -> None:
    async with in_force(folder, slow) as kept:
        await was_asked(slow)
        slow.answers[0].set()
        with trio.fail_after(HANG):
            while not model_key.usable(kept.current):
                await trio.sleep(0.01)
        settings.save(folder, settings.set_value(settings.load(folder), "notifications", "off"))
        await kept.reload()
        assert (kept.current.notifications, kept.current.model.api_key) == ("off", KEY)
        await was_asked(slow)
        slow.answers[1].set()


async def test_what_was_renewed_meanwhile_stays_and_an_older_answer_does_not_win(
    folder: StateFolder, slow: Slow
) -> None:
    """Seen to fail with settings that were read before the keychain answered put in force after it."""
    async with in_force(folder, slow) as kept:
        await was_asked(slow)
        slow.kept = dict.fromkeys(slow.kept, "sk-made-up-2")
        at = msgspec.structs.replace(settings.load(folder), broker="https://broker.example")
        settings.save(folder, at)
        await kept.reload()
        await was_asked(slow)
        kept.save_token("https://other.example", "of another broker")
        kept.save_token("https://broker.example", "new")
        slow.answers[1].set()
        with trio.fail_after(HANG):
            while kept.current.model.api_key != "sk-made-up-2":
                await trio.sleep(0.01)
        slow.answers[0].set()
        await trio.to_thread.run_sync(lambda: None)
        await trio.testing.wait_all_tasks_blocked(0.1)
        assert (kept.current.token, kept.current.model.api_key) == ("new", "sk-made-up-2")
        assert settings.load(folder).token == "new" and settings.load(folder).model.api_key == KEY_IN_KEYCHAIN


async def test_a_keychain_that_was_unlocked_is_asked_again_by_whoever_accepts(folder: StateFolder) -> None:
    ring = FakeKeychain()
    model_key.save(folder, given(), find=lambda: ring)
    ring.fails = RuntimeError("locked")
    async with in_force(folder, ring) as kept:
        with pytest.raises(Unavailable, match="keychain"):
            await kept.require_key()
        ring.fails = None
        await kept.require_key()
        assert kept.current.model.api_key == KEY


async def test_a_broken_config_leaves_what_was_in_force(folder: StateFolder) -> None:
    model_key.save(folder, given(), find=lambda: None)
    async with in_force(folder, None) as kept:
        folder.write_private(folder.config, b"{")
        with pytest.raises(Invalid):
            await kept.reload()
        await kept.require_key()
        assert kept.current.model.api_key == KEY
