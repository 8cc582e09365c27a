"""A storage whose operations are timed and whose refusals are told, for /metrics. No numbers are kept here."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from peer.protocol.errors import DispatchError, Unavailable
from rendezvous.storage.errors import LimitReached
from rendezvous.storage.interface import Storage

_PASSED_ON: Final = frozenset({"aclose", "listen", "usage"})
"""Members that are no operation: closing, waiting for other processes, counting connections."""
OPERATIONS: Final = tuple(sorted(Storage.__abstractmethods__ - _PASSED_ON))
"""The names of the operations that are timed: all of the interface, also those that it gets later."""


class Observer(Protocol):
    """What is told of each operation."""

    def storage_operation(self, operation: str, seconds: float, *, failed: bool) -> None:
        """An operation has ended; `failed`: not as the interface promises, mostly because of the database."""

    def refused(self, limit: str) -> None:
        """A limit of StorageLimits refused an operation."""


def measured(storage: Storage, observer: Observer) -> Storage:
    """Return the same storage, with `observer` told of each operation."""
    members: dict[str, object] = {name: _timed(getattr(storage, name), name, observer) for name in OPERATIONS}
    members |= {name: staticmethod(getattr(storage, name)) for name in _PASSED_ON}
    # Made from the interface, so that no operation can be forgotten here.
    made: Storage = type("MeasuredStorage", (Storage,), members)()
    return made


def _timed(operation: Callable[..., Awaitable[Any]], name: str, observer: Observer) -> object:
    async def run(*arguments: Any, **named: Any) -> Any:
        began, failed = time.perf_counter(), False
        try:
            return await operation(*arguments, **named)
        except DispatchError as error:
            if isinstance(error, LimitReached):
                observer.refused(error.limit)
            failed = isinstance(error, Unavailable)
            raise
        except Exception:
            failed = True
            raise
        finally:
            observer.storage_operation(name, time.perf_counter() - began, failed=failed)

    return staticmethod(run)
