"""Moves a broker from its SQLite file to a PostgreSQL database: every row, all or nothing, and compared afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from peer.protocol.errors import Conflict, Unavailable
from rendezvous.storage.postgresql import PostgresqlDatabase
from rendezvous.storage.sql.connection import Connection
from rendezvous.storage.sqlite.database import Database

ROWS_AT_ONCE: Final = 500


class _Table(NamedTuple):
    name: str
    key: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.key + self.others


TABLES: Final = (
    _Table("users", ("user_id",), ("root", "epoch", "device_set", "created")),
    _Table("devices", ("user_id", "device"), ()),
    _Table("memberships", ("device",), ("user_id", "counter")),
    _Table(
        "logins",
        ("device_code",),
        (
            *("user_code", "user_id", "device", "device_name", "device_set", "address", "state", "reason"),
            *("mail_token", "attempts", "interval_ms", "next_poll", "created", "expires"),
        ),
    ),
    _Table("nonces", ("device", "nonce"), ("expires",)),
    _Table("presence", ("user_id", "device"), ("seq", "expires", "box")),
    _Table("versions", ("user_id",), ("version",)),
    _Table(
        "invitations",
        ("token",),
        (
            *("inviter", "invitee", "statement", "status", "created", "expires", "inviter_version"),
            *("invitee_version", "answered", "answer_digest", "purge_after", "mailed", "fetched"),
        ),
    ),
    _Table("answers", ("token", "device"), ("sealed",)),
    _Table("mails", ("quota", "at"), ()),
)
"""In an order in which each refers to what came before it. Every table and column of the two schemas."""


async def move(file: Path, target: PostgresqlDatabase) -> dict[str, int]:
    """Copy everything in the SQLite file into the empty tables of `target`; return the rows of each table.

    In one transaction, which ends with a comparison of every row. What is in the file stays; no broker may be using it.
    Raises Conflict if the target has rows, Unavailable where a database fails or a row differs.
    """
    with closing(Database(file)) as source:

        def step(db: Connection) -> dict[str, int]:
            return source.read(lambda old: _move(old, db))

        return await target.write(step, isolated=False, unbounded=True)


def _move(old: Connection, new: Connection) -> dict[str, int]:
    for table in TABLES:
        if next(_rows(new, table), None) is not None:
            raise Conflict("the database has rows of a broker already", fix="name an empty database")
    moved = {}
    for table in TABLES:
        insert = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({', '.join('?' * len(table.columns))})"  # noqa: S608
        batch: list[tuple[object, ...]] = []
        for row in _rows(old, table):
            batch.append(row)
            if len(batch) == ROWS_AT_ONCE:
                new.executemany(insert, batch)
                batch = []
        new.executemany(insert, batch)
        moved[table.name] = _compared(old, new, table)
    return moved


def _compared(old: Connection, new: Connection, table: _Table) -> int:
    count = _count(old, table)
    same = all(one == other for one, other in zip(_rows(old, table), _rows(new, table), strict=False))
    if not same or _count(new, table) != count:
        raise Unavailable(
            f"a row of {table.name} is not what it was after it was copied, so nothing was moved",
            fix="keep the file, and report this",
        )
    return count


def _count(db: Connection, table: _Table) -> int:
    return int(db.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])  # noqa: S608 - a name of TABLES


def _rows(db: Connection, table: _Table) -> Iterator[tuple[object, ...]]:
    """Yield every row, in the order of the bytes of its key; of a large table a part at a time."""
    columns, key = ", ".join(table.columns), ", ".join(table.key)
    if table.name == "mails":  # of one day, with no key of its own
        yield from map(tuple, db.execute(f"SELECT {columns} FROM mails ORDER BY {key}").fetchall())  # noqa: S608
        return
    after, where = (), ""
    while True:
        query = f"SELECT {columns} FROM {table.name} {where} ORDER BY {key} LIMIT {ROWS_AT_ONCE}"  # noqa: S608
        found = [tuple(row) for row in db.execute(query, after).fetchall()]
        yield from found
        if len(found) < ROWS_AT_ONCE:
            return
        after = found[-1][: len(table.key)]
        where = f"WHERE ({key}) > ({', '.join('?' * len(table.key))})"
