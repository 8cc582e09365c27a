"""SqliteStorage: one file, one writer and some readers, each in a worker thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.rows import Usage
from rendezvous.storage.sql import connection
from rendezvous.storage.sql.connection import Connection, Row, Values, usage_of
from rendezvous.storage.sql.storage import SqlStorage
from rendezvous.storage.sqlite.database import READERS, Database

R = TypeVar("R")


class Notices(Protocol):
    """The way to the other processes that have the same file open."""

    def tell(self, user_ids: Iterable[str], /) -> None:
        """Tell them of users whose invitations changed."""

    async def listen(self, heard: Callable[[str | None], None], /) -> None:
        """As Storage.listen."""


class SqliteStorage(SqlStorage):
    """A storage in the SQLite file at `path`, which is created or migrated; `beside` a broker it is used as it is.

    `notices`: None where no other process has the file open, or is told of changes. Raises Unavailable for an unusable
    file.
    """

    def __init__(
        self,
        path: Path,
        *,
        limits: StorageLimits = StorageLimits(),
        notices: Notices | None = None,
        beside: bool = False,
    ) -> None:
        super().__init__(_Threads(path, notices, beside=beside), limits=limits)


class _Threads(connection.Database):
    def __init__(self, path: Path, notices: Notices | None, *, beside: bool) -> None:
        self._database = Database(path, beside=beside)
        self._notices = notices
        self._write_limiter = trio.CapacityLimiter(1)  # more threads would only queue on the one writing connection
        self._read_limiter = trio.CapacityLimiter(READERS)

    async def write(self, step: Callable[[Connection], R], *, isolated: bool = True) -> R:
        result, changed = await trio.to_thread.run_sync(
            partial(self._database.write, step), limiter=self._write_limiter
        )
        if changed and self._notices is not None:
            self._notices.tell(changed)
        return result

    async def read(self, step: Callable[[Connection], R]) -> R:
        return await trio.to_thread.run_sync(partial(self._database.read, step), limiter=self._read_limiter)

    async def look_up(self, statement: str, values: Values) -> list[Row]:
        # In the event loop's own thread: this takes 8 microseconds, and going to another thread and back takes 70.
        rows = self._database.look_up(statement, values)
        if rows is None:  # a reader that may wait says what is wrong
            return await self.read(lambda db: db.execute(statement, values).fetchall())
        return rows

    async def listen(self, heard: Callable[[str | None], None]) -> None:
        if self._notices is None:
            await trio.sleep_forever()
        else:
            await self._notices.listen(heard)

    def usage(self) -> Usage:
        return usage_of(self._write_limiter, self._read_limiter)

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._database.close)
