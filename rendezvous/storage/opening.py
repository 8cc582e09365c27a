"""Which storage an operator means: the file in the data folder, or the PostgreSQL database of a connection string."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from peer.protocol.errors import Invalid
from rendezvous.storage.interface import Storage
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.sqlite import Notices, SqliteStorage, copy
from rendezvous.storage.sqlite import look as sqlite_look

DATABASE = "rendezvous.db"
_SCHEMES = ("postgresql://", "postgres://")


def open_storage(
    url: str,
    folder: Path,
    *,
    limits: StorageLimits = StorageLimits(),
    notices: Notices | None = None,
    beside: bool = False,
) -> Storage:
    """Open the database that `url` names, the file in `folder` for "". Blocking. Raises Invalid, Unavailable.

    `notices`: the way to other processes that have the file open, too. `beside` a broker that may be running: nothing
    is made or migrated, and tables of another version are refused.
    """
    if not url:
        file = database_file(folder) if beside else folder / DATABASE
        return SqliteStorage(file, limits=limits, notices=notices, beside=beside)
    storage: Storage = _postgresql(url).PostgresqlStorage(url, limits=limits, beside=beside)
    return storage


def database_file(folder: Path) -> Path:
    """Return the database's file in a data folder. Raises Invalid where there is none."""
    file = folder / DATABASE
    if not file.is_file():
        raise Invalid(
            f"there is no {DATABASE} in {folder}",
            fix="name the folder that the broker serves with --data, or its PostgreSQL server with --database",
        )
    return file


def copy_file(source: Path, target: Path) -> None:
    """Write a copy of the database file `source` to `target`, an empty file, as it is at one moment; a broker may be
    writing to it. Blocking. Raises Unavailable, also if the copy turns out damaged."""
    copy(source, target)


def look(url: str, folder: Path) -> str:
    """Say what is found at the database that is meant; change nothing. Blocking. Raises Invalid, Unavailable."""
    if url:
        return str(_postgresql(url).look(url))
    return sqlite_look(folder / DATABASE)


async def move(file: Path, url: str) -> dict[str, int]:
    """Move a broker from its SQLite file to the empty PostgreSQL database that `url` names; return the rows by table.

    Raises as `moving.move`, and Invalid.
    """
    target = _postgresql(url).PostgresqlDatabase.open(url)
    from rendezvous.storage import moving

    try:
        return await moving.move(file, target)
    finally:
        await target.aclose()


def _postgresql(url: str) -> ModuleType:
    if not url.startswith(_SCHEMES):
        raise Invalid("--database is no PostgreSQL address", fix="write it like postgresql://user@host/dispatch")
    try:
        from rendezvous.storage import postgresql
    except ImportError as error:
        raise Invalid(
            "this installation has no driver for PostgreSQL", fix="install dispatch with its extra `postgresql`"
        ) from error
    return postgresql
