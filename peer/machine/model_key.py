"""Storage of the model's API key: the OS keychain if there is one, else config.json. The model proxy uses the key.

With a keychain, config.json contains the word `keychain` instead of the key. Order of lookup: $ANTHROPIC_API_KEY, the
keychain, config.json. If the keychain does not return the key, the key is missing; there is no fallback to another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from peer.machine import keychains
from peer.machine import settings as settings_file
from peer.machine.keychains import Keychain
from peer.machine.settings import KEY_IN_KEYCHAIN, Settings
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import DispatchError, Unavailable
from sandbox.runtimes import RUNTIMES

FIX = (
    "run `dispatch config set model.api_key -` and paste the key (it is kept in the OS keychain, if there is one), or "
    "start the daemon with ANTHROPIC_API_KEY set; for a gateway, set model.base_url and give `Bearer TOKEN` as the key"
)

Find = Callable[[], Keychain | None]


def save(folder: StateFolder, settings: Settings, *, find: Find = keychains.os_keychain) -> Settings:
    """Save settings whose model.api_key is a new key or empty, and return the saved settings.

    Raises as `settings.save` does.
    """
    key = settings.model.api_key
    keychain = find()
    if not key and keychain is not None:
        keychains.forget(keychain, _account(folder))
    if key and keychain is not None and keychains.store(keychain, _account(folder), key):
        model = msgspec.structs.replace(settings.model, api_key=KEY_IN_KEYCHAIN)
        settings = msgspec.structs.replace(settings, model=model)
    settings_file.save(folder, settings)
    return settings


def reveal(folder: StateFolder, settings: Settings, *, find: Find = keychains.os_keychain) -> str:
    """Return the key of these settings, if need be from the keychain; "" if there is none. Raises Unavailable."""
    if settings.model.api_key != KEY_IN_KEYCHAIN:
        return settings.model.api_key
    keychain = find()
    kept = keychain and keychains.read(keychain, _account(folder))
    if not kept:
        raise Unavailable("the OS keychain did not return the model's API key", fix=f"unlock it, or {FIX}")
    return kept


def in_force(
    folder: StateFolder, *, env: Mapping[str, str] | None = None, find: Find = keychains.os_keychain
) -> Settings:
    """Return `settings.resolve` with the key itself in it; if it is not available, `model.key_problem` is the reason.

    Blocks for as long as the keychain takes: not for the event loop's thread. Raises as `settings.resolve`.
    """
    settings = settings_file.resolve(folder, env=env)
    try:
        model = msgspec.structs.replace(settings.model, api_key=reveal(folder, settings, find=find))
    except DispatchError as error:
        model = msgspec.structs.replace(settings.model, api_key="", key_problem=error.message)
    return msgspec.structs.replace(settings, model=model)


def needed(settings: Settings) -> bool:
    """Whether the agent of these settings asks a model, which needs a key."""
    return RUNTIMES[settings.runtime].needs_model_key


def usable(settings: Settings) -> bool:
    """Whether these resolved settings contain a key."""
    return settings.model.api_key not in ("", KEY_IN_KEYCHAIN)


def require(settings: Settings) -> None:
    """Raise Unavailable, with the ways to set a key, if there is no usable one."""
    if settings.model.api_key == KEY_IN_KEYCHAIN:
        raise Unavailable("the OS keychain has not returned the model's API key yet", fix=f"unlock it, or {FIX}")
    if not settings.model.api_key:
        reason = settings.model.key_problem or "the agent on this machine has no model credentials"
        raise Unavailable(reason, fix=FIX)


def _account(folder: StateFolder) -> str:
    """The account name of the key in the keychain: one per state folder."""
    return f"model-api-key {folder.path.absolute()}"
