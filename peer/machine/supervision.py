"""Background work that must outlive its own failures: one defect or one full disk ends no node. Knows nothing of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio

from peer.protocol.errors import DispatchError

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 10.0


async def supervise(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` until it returns; when it raises anything but a cancellation, log that and run it again in a while."""
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
