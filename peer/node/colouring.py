"""Syntax colours for a diff on the page, from a program of its own (`sandbox.changes.colouring`). Never raises.

What it reads was written by a run, and lexers are regular expressions: so it is bounded in time, memory and what it may
answer, and whatever is unusual means no colours.
"""

from __future__ import annotations

from functools import partial
from subprocess import DEVNULL, PIPE
from typing import Final

import msgspec
import structlog
import trio

from peer.machine.installation import AGENT_ENVIRONMENT, COLOURING, ROOT
from sandbox.changes.colours import MAX_ANSWER, Asked, Colours

log = structlog.get_logger(__name__)

SECONDS: Final = 15.0
"""For one file, from the start of the program: it limits its own processor time to less."""
MAX_WAITING: Final = 8
"""Files that wait for the one that is coloured now; more get no colours."""


class Colouring:
    """One file at a time."""

    def __init__(self) -> None:
        self._one = trio.CapacityLimiter(1)

    async def colours(self, asked: Asked) -> Colours | None:
        """Return the colours of both texts of a file; None where there are none."""
        if not asked.fits or self._one.statistics().tasks_waiting >= MAX_WAITING:
            return None
        async with self._one:
            answer = await _answer(msgspec.json.encode(asked))
        try:
            return msgspec.json.decode(answer, type=Colours) if answer else None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            log.warning("colouring.wrong_answer")
            return None


async def _answer(question: bytes) -> bytes:
    """What the program answers; b"" for nothing, too much, or too late."""
    answer = bytearray()
    status: int | None = None
    try:
        with trio.move_on_after(SECONDS):
            async with trio.open_nursery() as nursery:
                start = partial(
                    trio.run_process,
                    COLOURING,
                    cwd=ROOT,
                    env=AGENT_ENVIRONMENT,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=DEVNULL,
                    check=False,
                    deliver_cancel=_kill,
                )
                process: trio.Process = await nursery.start(start)
                assert process.stdin is not None and process.stdout is not None
                async with process.stdin:
                    await process.stdin.send_all(question)
                async for piece in process.stdout:
                    answer += piece
                    if len(answer) > MAX_ANSWER:
                        nursery.cancel_scope.cancel()
                status = await process.wait()
    except* (OSError, trio.BrokenResourceError) as problems:
        log.info("colouring.none", why=str(problems.exceptions[0]))
        status = None
    return bytes(answer) if status == 0 and len(answer) <= MAX_ANSWER else b""


async def _kill(process: trio.Process) -> None:
    process.kill()
