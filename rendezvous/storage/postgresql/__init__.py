"""The broker's storage in a PostgreSQL server, for several processes and machines. Needs the extra `postgresql`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.postgresql.database import PostgresqlDatabase, look
from rendezvous.storage.sql.connection import Connection
from rendezvous.storage.sql.storage import SqlStorage

__all__ = ["PostgresqlDatabase", "PostgresqlStorage", "look"]

R = TypeVar("R")


class PostgresqlStorage(SqlStorage):
    """A storage in the database that `url` names; its tables are made or migrated, `beside` a broker used as they are.

    It writes only while this machine's clock agrees with the server's. `check` and `purge`, which are called every few
    seconds and every minute, compare them. Raises Invalid, Unavailable.
    """

    def __init__(self, url: str, *, limits: StorageLimits = StorageLimits(), beside: bool = False) -> None:
        database = PostgresqlDatabase.open(url, connections=limits.database_connections, beside=beside)
        self._clock = database.clock
        super().__init__(database, limits=limits)

    async def _write(self, step: Callable[[Connection], R]) -> R:
        self._clock.check()
        return await super()._write(step)

    async def check(self) -> None:
        await self._read(self._clock.look)
        self._clock.check()

    async def purge(self, now: int) -> int:
        await self.check()
        return await super().purge(now)
