"""Syntax colours for a diff on the page, from a program of its own (`sandbox.changes.colouring`). Never raises.

What it reads was written by a run, and lexers are regular expressions: so it is bounded in time, memory and what it may
answer, and whatever is unusual means no colours.
"""

from __future__ import annotations

from typing import Final

import msgspec
import structlog
import trio

from peer.machine.installation import COLOURING
from peer.node.helper_program import answer_of
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
            answer = await answer_of(COLOURING, msgspec.json.encode(asked), seconds=SECONDS, most=MAX_ANSWER)
        try:
            return msgspec.json.decode(answer, type=Colours) if answer else None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            log.warning("colouring.wrong_answer")
            return None
