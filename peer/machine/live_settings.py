"""The settings in force while a node runs: read at its start and at each reload, with the model's key of the keychain.

Nothing waits long for a keychain, which may ask its person: until it has answered, there is no key.
"""

from __future__ import annotations

from functools import partial

import msgspec
import trio

from peer.machine import keychains, model_key
from peer.machine import settings as settings_file
from peer.machine.model_key import Find
from peer.machine.settings import KEY_IN_KEYCHAIN, Settings
from peer.machine.state_folder import StateFolder
from peer.machine.supervision import supervise
from sandbox.runtimes import RUNTIMES

KEYCHAIN_SECONDS = 5.0
"""How long whoever changes a setting or accepts waits for the keychain: it answers at once, unless it asks first."""


class LiveSettings:
    """`now` is what holds. Enter a task with `run` for the keychain to be asked at all."""

    def __init__(self, folder: StateFolder, *, find: Find = keychains.os_keychain) -> None:
        """Raises Invalid for a config.json that is none."""
        self.current = settings_file.resolve(folder)
        self._folder = folder
        self._find = find
        self._nursery: trio.Nursery | None = None
        self._answered = trio.Event()
        """Set when the keychain has answered the last time that it was asked, or need not be."""
        self._answered.set()

    async def run(self) -> None:
        """Have the key as soon as the keychain gives it, now and whenever it is asked again."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                self._ask(self.current)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def reload(self) -> None:
        """Read config.json again, and the keychain if it answers soon. Raises Invalid, and keeps what was in force."""
        fresh = settings_file.resolve(self._folder)
        known = self.current.model.api_key
        self.current = fresh
        if fresh.model.api_key == KEY_IN_KEYCHAIN and known:
            self.current = _with_key(fresh, known)  # it holds until the keychain gives one, or does not
        self._ask(fresh)
        with trio.move_on_after(KEYCHAIN_SECONDS):
            await self._answered.wait()

    def save_token(self, token: str) -> None:
        """Keep the broker's token, in config.json too."""
        saved = settings_file.load(self._folder)
        settings_file.save(self._folder, msgspec.structs.replace(saved, token=token))
        fresh = settings_file.resolve(self._folder)
        self.current = msgspec.structs.replace(fresh, model=self.current.model)

    async def require_key(self) -> None:
        """Raise Unavailable where the agent needs a model's key and there is none."""
        if not RUNTIMES[self.current.runtime].needs_model_key:
            return
        if not model_key.usable(self.current):
            # It may have been unlocked since it was asked; and one that is just being asked is not asked twice.
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
        if self._answered is answered:  # else a later reload asks anew
            self.current = msgspec.structs.replace(self.current, model=found.model)
        answered.set()


def _with_key(settings: Settings, key: str) -> Settings:
    return msgspec.structs.replace(settings, model=msgspec.structs.replace(settings.model, api_key=key))
