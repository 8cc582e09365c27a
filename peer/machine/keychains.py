"""The system's keychain, bounded: it may be locked, ask its person, or never answer. What for is said elsewhere."""

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
"""A locked keychain asks its person; nobody answering must not hang whoever wants a secret for ever."""

T = TypeVar("T")


class Keychain(Protocol):
    """What is used of a `keyring` backend."""

    def get_password(self, service: str, username: str, /) -> str | None: ...

    def set_password(self, service: str, username: str, password: str, /) -> None: ...

    def delete_password(self, service: str, username: str, /) -> None: ...


def os_keychain(environment: Mapping[str, str] | None = None) -> Keychain | None:
    """Return the OS keychain, or None where there is no real one. Raises Unavailable when it fails or does not answer.

    On Linux without a session bus nothing is even tried: its backends would wait for a service that never answers.
    `PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring` keeps secrets out of the keychain.
    """
    variables = os.environ if environment is None else environment
    if sys.platform.startswith("linux") and not variables.get("DBUS_SESSION_BUS_ADDRESS"):
        return None
    import keyring  # 50 ms and more; few commands need it

    def find() -> Keychain | None:
        backend: Keychain = keyring.get_keyring()
        # keyring's own scale: below 1 a backend is the null, the failing or a not recommended (plain text) one.
        return backend if backend.priority >= 1 else None  # type: ignore[attr-defined]

    try:
        return _within(SECONDS, find)
    except Unavailable:
        raise
    except Exception as error:  # backends raise what they like
        raise Unavailable(
            f"the OS keychain fails: {type(error).__name__}",
            fix="mend it, or do without one: PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring",
        ) from error


def read(keychain: Keychain, account: str) -> str | None:
    """Return a secret, or None where there is none. Raises Unavailable when the keychain fails or does not answer."""
    try:
        return _within(SECONDS, lambda: keychain.get_password(SERVICE, account))
    except Unavailable:
        raise
    except Exception as error:  # backends raise what they like
        raise Unavailable(f"the OS keychain fails: {type(error).__name__}", fix="unlock it, then try again") from error


def store(keychain: Keychain, account: str, secret: str) -> bool:
    """Keep a secret and read it back; False when the keychain does not take it."""

    def put() -> bool:
        keychain.set_password(SERVICE, account, secret)
        return keychain.get_password(SERVICE, account) == secret

    try:
        return _within(SECONDS, put)
    except Exception:  # backends raise what they like; what stands in for a keychain is the answer to all of it
        return False


def forget(keychain: Keychain, account: str) -> None:
    """Remove a secret, if the keychain has it and lets go of it."""
    with suppress(Exception):
        _within(SECONDS, lambda: keychain.delete_password(SERVICE, account))


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return `call()` from a thread of its own. Raises Unavailable when it takes longer."""
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
        raise Unavailable("the OS keychain does not answer", fix="unlock it, then try again")
    return results[0]
