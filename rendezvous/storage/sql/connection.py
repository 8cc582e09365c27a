"""What the SQL beside this module needs of a database: a connection in a transaction, and a way to have one.

The SQL is what SQLite and PostgreSQL have in common. Values stand for `?`, in their order; a row gives its columns by
place and by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

R = TypeVar("R")

Values = Sequence[object]


class Row(Protocol):
    """One row: a sequence of its columns, which can also be asked for by their names."""

    def __getitem__(self, key: int | str, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Rows(Protocol):
    """What a statement gives."""

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...

    @property
    def rowcount(self) -> int:
        """How many rows were written or deleted."""


class Connection(Protocol):
    """A connection in a transaction, for one step."""

    def execute(self, statement: str, values: Values = ..., /) -> Rows: ...

    def executemany(self, statement: str, values: Iterable[Values], /) -> object: ...

    def note_change(self, user_id: str) -> None:
        """Tell the other processes on this data, once the transaction is committed, that a user's invitations changed.

        A hint alone: what changed is read again.
        """


class Database(ABC):
    """Runs steps as transactions, in worker threads. Each raises Unavailable when the database cannot be used.

    A step may run more than once, and then nothing is left of the times before: it has no effect but in the database.
    """

    @abstractmethod
    async def write(self, step: Callable[[Connection], R], *, isolated: bool = True) -> R:
        """Return what a step returns. Its writes are committed together or, when it raises, none; concurrent steps
        that are `isolated` behave as if they had run one after the other."""

    @abstractmethod
    async def read(self, step: Callable[[Connection], R]) -> R:
        """Return what a step returns that only reads, and sees one committed state."""

    @abstractmethod
    async def look_up(self, statement: str, values: Values) -> list[Row]:
        """Return what one statement finds that reads a few rows by their keys, of one committed state."""

    @abstractmethod
    async def listen(self, heard: Callable[[str | None], None]) -> None:
        """Call `heard` with each user id that another process noted a change of, and with None when some may have been
        missed. Runs until it is cancelled."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close it; later steps raise Unavailable."""
