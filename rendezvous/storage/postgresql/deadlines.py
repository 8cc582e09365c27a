"""Steps that take too long: their connection is shut from this side. What a statement may take, the server bounds."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
import trio

STEP_SECONDS: Final = 15.0
"""What a step may take, and each of its tries; above that its connection is shut."""


class Running:
    """A step that is under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._using: psycopg.Connection[Any] | None = None
        self._until = trio.current_time() + STEP_SECONDS

    @contextmanager
    def on(self, using: psycopg.Connection[Any]) -> Iterator[None]:
        with self._lock:
            self._using = using
        try:
            yield
        finally:
            with self._lock:
                self._using = None

    def give_up_late(self) -> None:
        """Shut its connection if it has taken too long, and again if it goes on with another one for as long."""
        if trio.current_time() < self._until:
            return
        self._until += STEP_SECONDS
        with self._lock:
            if self._using is not None and not self._using.closed:
                with socket.socket(fileno=os.dup(self._using.fileno())) as connected, suppress(OSError):
                    connected.shutdown(socket.SHUT_RDWR)


class Watch:
    """Steps under way, and one task that looks at them while there are any.

    A server that stands still, on a machine that does not, answers nothing for ever, and libpq waits: then the
    connection is shut from this side. One task for each step would cost more than most steps do.
    """

    def __init__(self) -> None:
        self._steps: set[Running] = set()
        self._looking = False

    def add(self, step: Running) -> None:
        self._steps.add(step)
        if not self._looking:
            self._looking = True
            trio.lowlevel.spawn_system_task(self._look)

    def discard(self, step: Running) -> None:
        self._steps.discard(step)

    async def _look(self) -> None:
        try:
            while self._steps:
                await trio.sleep(STEP_SECONDS / 10)
                for step in tuple(self._steps):
                    step.give_up_late()
        finally:
            self._looking = False
