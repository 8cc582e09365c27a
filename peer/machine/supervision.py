"""Background tasks: restarted after failures, so that a defect or a full disk in one does not end the node; and one
for each of several keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog
import trio

from peer.protocol.errors import DispatchError

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 10.0


async def supervise(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` until it returns. If it raises, except by cancellation, log that and run it again after a pause."""
    while True:
        try:
            await work()
        except DispatchError as error:
            log.error("task.failed", task=name, code=error.code, message=error.message)
        except Exception:
            log.exception("task.failed", task=name)
        else:
            return
        await trio.sleep(PAUSE_SECONDS)


class OneForEach:
    """Runs `work(key)` for each of `keys()`, each supervised; `look` is called when they may have changed."""

    def __init__(self, name: str, keys: Callable[[], Iterable[str]], work: Callable[[str], Awaitable[None]]) -> None:
        self._name = name
        self._keys = keys
        self._work = work
        self._changed = trio.Event()

    def look(self) -> None:
        """Start what is missing, and cancel what is no longer wanted, soon."""
        self._changed.set()

    async def run(self) -> None:
        """Run until cancelled."""
        scopes: dict[str, trio.CancelScope] = {}
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                wanted = list(dict.fromkeys(self._keys()))
                for key in scopes.keys() - set(wanted):
                    scopes.pop(key).cancel()
                for key in wanted:
                    if key not in scopes:
                        scopes[key] = trio.CancelScope()
                        nursery.start_soon(self._one, scopes[key], key)
                await self._changed.wait()

    async def _one(self, scope: trio.CancelScope, key: str) -> None:
        with scope:
            await supervise(self._name, partial(self._work, key))
