"""All implementations, each through two handles on the same data, as two processes would have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from rendezvous.storage.interface import Storage
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.postgresql import PostgresqlStorage
from rendezvous.storage.sqlite import SqliteStorage
from tests.rendezvous.storage.memory import MemoryStorage

Handles = tuple[Storage, Storage]
Open = Callable[[StorageLimits], Handles]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def open_with(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens an empty storage with limits of its own; closes it at the end."""
    async with AsyncExitStack() as stack:

        def opened(limits: StorageLimits) -> Handles:
            if request.param == "memory":
                one: Storage = MemoryStorage(limits=limits)
                handles = one, one
            elif request.param == "postgresql":
                url = request.getfixturevalue("postgresql").database()
                handles = PostgresqlStorage(url, limits=limits), PostgresqlStorage(url, limits=limits)
            else:
                path = tmp_path / "rendezvous.db"
                handles = SqliteStorage(path, limits=limits), SqliteStorage(path, limits=limits)
            for handle in handles:
                stack.push_async_callback(handle.aclose)
            return handles

        yield opened


@pytest.fixture
def storages(open_with: Open) -> Handles:
    """Two handles on one empty storage."""
    return open_with(StorageLimits())


@pytest.fixture
def storage(storages: Handles) -> Storage:
    """An empty storage."""
    return storages[0]
