"""Restarts background tasks after failures, so that a defect or a full disk in one does not end the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

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
