"""A PostgreSQL server: connections, migrations, one transaction at a time, notices between processes.

A write is serializable: where the server cannot find an order for it among those beside it, or the connection broke
before its commit was sent, it is done again, a few times. A transaction whose commit was sent and not answered may
have happened: that is Unavailable, and who asks again is refused or answered by what is stored.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from importlib import resources
from typing import Any, Final, TypeVar

import outcome
import psycopg
import structlog
import trio
from psycopg import IsolationLevel, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from peer.protocol.errors import Invalid, Unavailable
from rendezvous.storage.errors import OtherSchema
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.postgresql.clock import ServerClock
from rendezvous.storage.postgresql.deadlines import Running, Watch
from rendezvous.storage.postgresql.look_ups import LookUp, LookUps, too_busy
from rendezvous.storage.rows import Usage
from rendezvous.storage.sql import connection
from rendezvous.storage.sql.connection import Connection, Values, usage_of

log = structlog.get_logger(__name__)

R = TypeVar("R")

TRIES: Final = 10
"""How often a write is tried that the server could not put in order with those beside it."""
WAIT_SECONDS: Final = 5.0
"""For a step's turn, and then for a connection, also for a new one to a server that is away."""
STATEMENT_MS: Final = 10_000
"""What any statement may take; longer for none, since whoever asked has left by then."""
CHANNEL: Final = "dispatch_changes"
OLDEST: Final = 150_000
"""PostgreSQL 15, as its server_version_num."""
_MIGRATING: Final = 0x646973706174
"""Key of the advisory lock under which the tables are made: of several processes that start at once one makes them."""
_RETRY_SECONDS: Final = 0.005
_LISTEN_AGAIN_SECONDS: Final = (0.2, 5.0)

_AGAIN: Final = (errors.SerializationFailure, errors.DeadlockDetected)


def migrations() -> list[str]:
    """Return the SQL of schema/NNN_name.sql in order; the n-th brings the schema's version to n."""
    folder = resources.files("rendezvous.storage.postgresql").joinpath("schema")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [folder.joinpath(name).read_text("utf-8") for name in names]


class Row(tuple[Any, ...]):
    """A row whose columns can be asked for by their names, too."""

    __slots__ = ()
    names: dict[str, int]

    def __getitem__(self, key: Any) -> Any:
        return tuple.__getitem__(self, self.names[key] if isinstance(key, str) else key)


@lru_cache(maxsize=256)
def _row_class(names: tuple[str, ...]) -> type[Row]:
    return type("Row", (Row,), {"__slots__": (), "names": {name: place for place, name in enumerate(names)}})


def _rows(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], Row]:
    return _row_class(tuple(column.name for column in cursor.description or ()))


@lru_cache(maxsize=512)
def _in_psycopg(statement: str) -> str:
    return statement.replace("%", "%%").replace("?", "%s")


class _Step:
    """One transaction of a connection, as the SQL beside this package sees it."""

    def __init__(self, using: psycopg.Connection[Row]) -> None:
        self._using = using
        self.changed: dict[str, None] = {}

    def execute(self, statement: str, values: Values = ()) -> psycopg.Cursor[Row]:
        return self._using.execute(_in_psycopg(statement), values)

    def executemany(self, statement: str, values: Iterable[Values]) -> None:
        self._using.cursor().executemany(_in_psycopg(statement), values)

    def note_change(self, user_id: str) -> None:
        self.changed[user_id] = None


class PostgresqlDatabase(connection.Database):
    """The database that a connection string names, with the tables of this program.

    `open` makes one. As many steps run at once as there are connections; more wait in trio, where they can be
    cancelled.
    """

    def __init__(
        self,
        pool: ConnectionPool[psycopg.Connection[Row]],
        conninfo: str,
        clock: ServerClock,
        *,
        connections: int,
    ) -> None:
        self.clock = clock
        self._pool = pool
        self._conninfo = conninfo
        self._limiter = trio.CapacityLimiter(connections)
        self._watch = Watch()
        self._look_ups = LookUps(self._look_up_together, wait_seconds=WAIT_SECONDS)

    @classmethod
    def open(
        cls, url: str, *, connections: int = StorageLimits().database_connections, beside: bool = False
    ) -> PostgresqlDatabase:
        """Connect, and make or migrate the tables; `beside` a broker they are used as they are. Blocking.

        Raises Invalid for no connection string, and Unavailable for a server that is away, too old, read-only, of
        another time, or has tables of a newer program; `beside`, also of an older one.
        """
        conninfo = _conninfo(url)
        clock = ServerClock()
        with _as_unavailable():
            with psycopg.connect(conninfo, autocommit=True) as first:
                if first.info.server_version < OLDEST:
                    raise Unavailable(
                        f"this is PostgreSQL {first.info.server_version // 10_000}", fix="use PostgreSQL 15 or newer"
                    )
                clock.look(first)
                clock.check()
                if beside:
                    _require_current(first)
                else:
                    migrate(first)
            pool = ConnectionPool(
                conninfo,
                connection_class=psycopg.Connection[Row],
                kwargs={"row_factory": _rows},
                min_size=1,
                max_size=connections,
                open=True,
                timeout=WAIT_SECONDS,
                name="dispatch-rendezvous",
                # Away for good is found out by each step's own wait; the pool goes on trying meanwhile.
                reconnect_timeout=0,
            )
        return cls(pool, conninfo, clock, connections=connections)

    async def write(self, step: Callable[[Connection], R], *, isolated: bool = True, unbounded: bool = False) -> R:
        """As of every database; `unbounded`: the step may take its time, and whoever waits for it watches it."""
        level = IsolationLevel.SERIALIZABLE if isolated else IsolationLevel.READ_COMMITTED
        return await self._in_thread(partial(self._run, step, level, read_only=False), unbounded=unbounded)

    async def read(self, step: Callable[[Connection], R]) -> R:
        return await self._in_thread(partial(self._run, step, IsolationLevel.REPEATABLE_READ, read_only=True))

    async def look_up(self, statement: str, values: Values) -> list[connection.Row]:
        return await self._look_ups.look_up(statement, values)

    async def _look_up_together(self, asked: Sequence[LookUp]) -> None:
        await self._in_thread(partial(self._look_up, asked))

    def _look_up(self, asked: Sequence[LookUp], running: Running) -> None:
        # Each statement is a transaction of its own: there is no BEGIN and no COMMIT.
        with _as_unavailable():
            for last in (False, True):
                with self._pool.connection() as using, running.on(using):
                    _set_up(using, autocommit=True)
                    try:
                        with using.pipeline() if len(asked) > 1 else nullcontext():
                            found = [using.execute(_in_psycopg(each.statement), each.values) for each in asked]
                            for each, rows in zip(asked, found, strict=True):
                                each.found = outcome.Value(list(rows.fetchall()))
                    except psycopg.OperationalError:
                        if last or not using.closed:
                            raise
                    except psycopg.DataError:  # of one of them, which the others are not to suffer from
                        if len(asked) == 1:
                            raise
                        break
                    else:
                        return
        for each in asked:
            each.found = outcome.capture(self._look_up_alone, each, running)

    def _look_up_alone(self, asked: LookUp, running: Running) -> list[connection.Row]:
        self._look_up((asked,), running)
        assert asked.found is not None
        rows: list[connection.Row] = asked.found.unwrap()
        return rows

    async def _in_thread(self, run: Callable[[Running], R], *, unbounded: bool = False) -> R:
        running = Running()
        if unbounded:
            return await trio.to_thread.run_sync(run, running, limiter=self._limiter)
        self._watch.add(running)
        try:
            with trio.move_on_after(WAIT_SECONDS):  # for its turn: a thread that has begun is not cancelled
                return await trio.to_thread.run_sync(run, running, limiter=self._limiter)
        finally:
            self._watch.discard(running)
        raise too_busy()

    def _run(self, step: Callable[[Connection], R], level: IsolationLevel, running: Running, *, read_only: bool) -> R:
        with _as_unavailable():
            for tried in range(1, TRIES + 1):
                try:
                    return self._once(step, level, running, read_only=read_only)
                except _AGAIN:
                    if tried == TRIES:
                        raise
                except _Broken as broken:
                    if tried > 2:
                        raise broken.error from None
                time.sleep(random.uniform(0, _RETRY_SECONDS * 2**tried))  # noqa: S311 - only spreads them
        raise AssertionError

    def _once(self, step: Callable[[Connection], R], level: IsolationLevel, running: Running, *, read_only: bool) -> R:
        with self._pool.connection() as using, running.on(using):
            # Not READ WRITE: that would write to a server that its operator has made read-only.
            _set_up(using, autocommit=False, level=level, read_only=read_only or None)
            try:
                mine = _Step(using)
                result = step(mine)
                for user_id in mine.changed:
                    mine.execute("SELECT pg_notify(?, ?)", (CHANNEL, user_id))
            except errors.ReadOnlySqlTransaction as error:
                if read_only:
                    raise
                using.close()  # its server was demoted: a new connection goes to the one that takes writes
                raise _Broken(error) from error
            except psycopg.OperationalError as error:
                if using.closed and not isinstance(error, _AGAIN):
                    raise _Broken(error) from error
                raise
            using.commit()
            return result

    async def listen(self, heard: Callable[[str | None], None]) -> None:
        first, most = _LISTEN_AGAIN_SECONDS
        wait = first
        while True:
            try:
                with await trio.to_thread.run_sync(self._listening) as listening:
                    heard(None)
                    wait = first
                    while True:
                        for notice in listening.notifies(timeout=0):
                            heard(notice.payload)
                        await trio.lowlevel.wait_readable(listening.fileno())
            except psycopg.Error as error:
                log.warning("database.not_heard", error=type(error).__name__)
            await trio.sleep(wait)
            wait = min(2 * wait, most)

    def _listening(self) -> psycopg.Connection[Any]:
        made = psycopg.connect(self._conninfo, autocommit=True)
        made.execute(f"LISTEN {CHANNEL}")
        return made

    def usage(self) -> Usage:
        return usage_of(self._limiter)

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._pool.close)


class _Broken(Exception):
    """The connection was lost, or of no use, before a commit was sent: nothing has happened."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error))
        self.error = error


def _set_up(
    using: psycopg.Connection[Any],
    *,
    autocommit: bool,
    level: IsolationLevel | None = None,
    read_only: bool | None = None,
) -> None:
    """Set how the next transaction of a connection is; each change of these takes as long as a small statement."""
    if using.autocommit != autocommit:
        using.autocommit = autocommit
    if not autocommit and using.isolation_level != level:
        using.isolation_level = level
    if not autocommit and using.read_only != read_only:
        using.read_only = read_only


def migrate(using: psycopg.Connection[Any]) -> None:
    """Bring the tables to this program's version: all of it or nothing. Raises Unavailable for those of a newer one."""
    known = migrations()
    with using.transaction():
        using.execute("SELECT pg_advisory_xact_lock(%s)", (_MIGRATING,))
        using.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        row = using.execute("SELECT version FROM schema_version").fetchone()
        present = int(row[0]) if row else 0
        if present > len(known):
            raise Unavailable(
                f"the database was written by a newer dispatch-rendezvous (schema {present}, this one knows "
                f"{len(known)})",
                fix="update dispatch-rendezvous; the database was not touched",
            )
        for script in known[present:]:
            using.execute(script)
        if row is None:
            using.execute("INSERT INTO schema_version (version) VALUES (%s)", (len(known),))
        elif present < len(known):
            using.execute("UPDATE schema_version SET version = %s", (len(known),))


def _require_current(using: psycopg.Connection[Any]) -> None:
    """Raise Unavailable unless the tables are there, and this program's."""
    there = using.execute("SELECT to_regclass('schema_version') IS NOT NULL").fetchone()
    row = using.execute("SELECT version FROM schema_version").fetchone() if there and there[0] else None
    if row is None:
        raise Unavailable("the database has no tables of a broker yet", fix="run `dispatch-rendezvous serve` once")
    if row[0] != len(migrations()):
        raise OtherSchema("the database", found=row[0], known=len(migrations()))


def look(url: str) -> str:
    """Return the version of a server and of the tables there, in words; change nothing. Raises Invalid, Unavailable."""
    with _as_unavailable(), psycopg.connect(_conninfo(url)) as using:
        version = using.info.parameter_status("server_version") or "of unknown version"
        clock = ServerClock()
        clock.look(using)
        clock.check()
        there = using.execute("SELECT to_regclass('schema_version') IS NOT NULL").fetchone()
        if not there or not there[0]:
            return f"PostgreSQL {version}, no tables yet: the first `serve` makes them"
        row = using.execute("SELECT version FROM schema_version").fetchone()
        return f"PostgreSQL {version}, tables of version {row[0] if row else 0}; this program's is {len(migrations())}"


def _conninfo(url: str) -> str:
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise Invalid(
            "--database is no PostgreSQL address", fix="write it like postgresql://user@host/dispatch"
        ) from error
    settings = f"-c statement_timeout={STATEMENT_MS} -c idle_in_transaction_session_timeout={STATEMENT_MS}"
    usual: dict[str, Any] = {
        "connect_timeout": int(WAIT_SECONDS),
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": STATEMENT_MS + 5_000,
        "application_name": "dispatch-rendezvous",
        # Of several hosts the one that takes writes, also after a failover.
        "target_session_attrs": "read-write",
    }
    options = f"{settings} {given.pop('options', '') or ''}".strip()
    return make_conninfo("", **{**usual, **given, "options": options})


def _said(error: psycopg.Error) -> str:
    """Return the words for the log: what keeps a connection from being made, which may name the server and its user. Of
    a statement that failed, only the sentence, and none if that can quote a value (classes 22 and 23)."""
    if error.sqlstate is None:
        return str(error)[:300]
    return "" if error.sqlstate[:2] in ("22", "23") else (error.diag.message_primary or "")[:300]


@contextmanager
def _as_unavailable() -> Iterator[None]:
    fix = "its operator should look at the database server and the log"
    try:
        yield
    except psycopg.IntegrityError:
        raise  # a fault of ours, not of the server
    except _AGAIN as error:
        raise too_busy() from error
    except PoolTimeout as error:
        raise Unavailable("the broker can't reach its database", fix=fix) from error
    except psycopg.Error as error:
        log.warning("database.failed", error=type(error).__name__, code=error.sqlstate or "", said=_said(error))
        why = f"can't use its database (SQLSTATE {error.sqlstate})" if error.sqlstate else "can't reach its database"
        raise Unavailable(f"the broker {why}", fix=fix) from error
