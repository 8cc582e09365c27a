"""The settings in force while a node runs: read at start and at each reload, with the model key from the keychain.

Nothing waits long for the keychain, which may prompt its user: until it has answered, there is no key.
"""

from __future__ import annotations

from functools import partial

import msgspec
import trio

from peer.machine import broker_list, keychains, model_key
from peer.machine import settings as settings_file
from peer.machine.model_key import Find
from peer.machine.settings import KEY_IN_KEYCHAIN, Settings
from peer.machine.state_folder import StateFolder
from peer.machine.supervision import supervise

KEYCHAIN_SECONDS = 5.0
"""How long a reload or an accept waits for the keychain, which answers at once unless it has to prompt its user."""


class LiveSettings:
    """`current` is in force. The keychain is only read while `run` is running."""

    def __init__(self, folder: StateFolder, *, find: Find = keychains.os_keychain) -> None:
        """Raises Invalid for a malformed config.json."""
        self.current = settings_file.resolve(folder)
        self._folder = folder
        self._find = find
        self._nursery: trio.Nursery | None = None
        self._answered = trio.Event()
        """Set once the keychain has answered the latest request, or if none is needed."""
        self._answered.set()

    async def run(self) -> None:
        """Read the key from the keychain, now and after each later request, and put it in force when it arrives."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self._ask(self.current)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def reload(self) -> None:
        """Read config.json again, and the keychain if it answers soon. If it raises Invalid, nothing changes."""
        fresh = settings_file.resolve(self._folder)
        known = self.current.model.api_key
        self.current = fresh
        if fresh.model.api_key == KEY_IN_KEYCHAIN and known:
            self.current = _with_key(fresh, known)  # the known key stays in force until the keychain has answered
        self._ask(fresh)
        with trio.move_on_after(KEYCHAIN_SECONDS):
            await self._answered.wait()

    def save_token(self, broker: str, token: str) -> None:
        """Save the token of a broker that config.json names, and put it in force. That of any other one is not kept."""
        saved = settings_file.load(self._folder)
        settings_file.save(self._folder, saved.using(broker_list.with_token(saved.sign_ins, broker, token)))
        fresh = settings_file.resolve(self._folder)
        self.current = msgspec.structs.replace(fresh, model=self.current.model)

    async def require_key(self) -> None:
        """Raise Unavailable if the agent needs a model key and there is none."""
        if not model_key.needed(self.current):
            return
        if not model_key.usable(self.current):
            # The keychain may have been unlocked since the last request. Do not start a second request beside one.
            if self._answered.is_set():
                self._ask(settings_file.resolve(self._folder))
            with trio.move_on_after(KEYCHAIN_SECONDS):
                await self._answered.wait()
        model_key.require(self.current)

    def _ask(self, read: Settings) -> None:
        self._answered = answered = trio.Event()
        if read.model.api_key == KEY_IN_KEYCHAIN and self._nursery is not None:
            self._nursery.start_soon(supervise, "keychain", partial(self._take_key, answered))
        else:
            answered.set()

    async def _take_key(self, answered: trio.Event) -> None:
        find = partial(model_key.in_force, self._folder, find=self._find)
        found = await trio.to_thread.run_sync(find, abandon_on_cancel=True)  # type: ignore[call-arg]
        if self._answered is answered:  # otherwise a later reload has started another request
            self.current = msgspec.structs.replace(self.current, model=found.model)
        answered.set()


def _with_key(settings: Settings, key: str) -> Settings:
    return msgspec.structs.replace(settings, model=msgspec.structs.replace(settings.model, api_key=key))
