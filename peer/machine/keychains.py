"""Access to the OS keychain with a time limit: it may be locked, prompt its user, or hang. No policy here."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol, TypeVar

from peer.protocol.errors import Unavailable

SERVICE = "dispatch-courier"
SECONDS = 60
"""The time limit of one access. A locked keychain prompts its user, who may be away."""

T = TypeVar("T")


class Keychain(Protocol):
    """The part of a `keyring` backend that is used."""

    def get_password(self, service: str, username: str, /) -> str | None: ...

    def set_password(self, service: str, username: str, password: str, /) -> None: ...

    def delete_password(self, service: str, username: str, /) -> None: ...


def os_keychain(environment: Mapping[str, str] | None = None) -> Keychain | None:
    """Return the OS keychain, or None if there is no real one. Raises Unavailable if it fails or does not answer.

    On Linux without a session bus it is None at once: the backends would wait for a service that is not running.
    `PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring` keeps secrets out of the keychain.
    """
    variables = os.environ if environment is None else environment
    if sys.platform.startswith("linux") and not variables.get("DBUS_SESSION_BUS_ADDRESS"):
        return None
    import keyring  # takes 50 ms or more; few commands need it

    def find() -> Keychain | None:
        backend: Keychain = keyring.get_keyring()
        # By keyring's own scale, priorities below 1 are the null, the failing and discouraged (plain text) backends.
        return backend if backend.priority >= 1 else None  # type: ignore[attr-defined]

    try:
        return _within(SECONDS, find)
    except Unavailable:
        raise
    except Exception as error:  # backends raise what they like
        raise Unavailable(
            f"the OS keychain failed: {type(error).__name__}",
            fix="repair it, or do without one: set PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring",
        ) from error


def read(keychain: Keychain, account: str) -> str | None:
    """Return a secret, or None if there is none. Raises Unavailable if the keychain fails or does not answer."""
    try:
        return _within(SECONDS, lambda: keychain.get_password(SERVICE, account))
    except Unavailable:
        raise
    except Exception as error:  # backends raise what they like
        raise Unavailable(f"the OS keychain failed: {type(error).__name__}", fix="unlock it, then try again") from error


def store(keychain: Keychain, account: str, secret: str) -> bool:
    """Store a secret and read it back; False if the keychain did not store it."""

    def put() -> bool:
        keychain.set_password(SERVICE, account, secret)
        return keychain.get_password(SERVICE, account) == secret

    try:
        return _within(SECONDS, put)
    except Exception:  # backends raise what they like; for all of it the caller stores the secret in a file instead
        return False


def forget(keychain: Keychain, account: str) -> None:
    """Remove a secret if possible; errors of the keychain are ignored."""
    with suppress(Exception):
        _within(SECONDS, lambda: keychain.delete_password(SERVICE, account))


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return `call()`, run in its own thread. Raises Unavailable if it takes longer."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="keychain")
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise Unavailable("the OS keychain did not answer", fix="unlock it, then try again")
    return results[0]
