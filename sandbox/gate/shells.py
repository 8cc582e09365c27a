"""The shell commands of a run, as the gate has to do with them: they stand still while a judged file is written.

What a command left running could swap a link, or change the file, between a call's judgement and its execution; and
the person's answer lies in between, which may take minutes. So before a Write or Edit is let through, everything that
shells have started is stopped, the call is judged again, and it all runs on when the call's result is there.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

import trio

from sandbox.errors import SandboxError


class Stoppable(Protocol):
    """A program of the run, as far as its shells matter; see `ConfinedProcess`."""

    async def stop_shells(self) -> int: ...

    async def resume_shells(self) -> None: ...

    async def count_shells(self) -> int: ...


class Shells:
    """Those of one run. Its programs are added when they are started; without any, nothing is stopped."""

    def __init__(self) -> None:
        self._programs: list[Stoppable] = []
        self._held: list[str] = []
        self._one_at_a_time = trio.Lock()

    def add(self, program: Stoppable) -> None:
        self._programs.append(program)

    async def hold(self, call_id: str) -> None:
        """Stop them until `release` of this id. Raises SandboxError, and holds nothing, where one does not stop."""
        async with self._one_at_a_time:
            if not self._held:
                for program in self._programs:
                    await program.stop_shells()
            self._held.append(call_id)

    async def release(self, call_id: str) -> None:
        """A call has been executed, or will not be. For one that holds nothing this does nothing."""
        async with self._one_at_a_time:
            if call_id not in self._held:
                return
            self._held.remove(call_id)
            if not self._held:
                for program in self._programs:
                    with suppress(SandboxError):  # it has ended
                        await program.resume_shells()

    async def running(self) -> int:
        """How many processes earlier commands have left running; 0 where that cannot be told."""
        async with self._one_at_a_time:
            found = 0
            for program in self._programs:
                with suppress(SandboxError):
                    found += await program.count_shells()
            return found
