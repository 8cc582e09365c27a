"""The broker's storage in a PostgreSQL server, for several processes and machines. Needs the extra `postgresql`."""

from __future__ import annotations

from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.postgresql.database import PostgresqlDatabase, look
from rendezvous.storage.sql.storage import SqlStorage

__all__ = ["PostgresqlDatabase", "PostgresqlStorage", "look"]


class PostgresqlStorage(SqlStorage):
    """A storage in the database that `url` names; its tables are made or migrated, `beside` a broker used as they are.

    Raises Invalid, Unavailable.
    """

    def __init__(self, url: str, *, limits: StorageLimits = StorageLimits(), beside: bool = False) -> None:
        opened = PostgresqlDatabase.open(url, connections=limits.database_connections, beside=beside)
        super().__init__(opened, limits=limits)
