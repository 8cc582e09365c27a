"""All implementations, each through two handles on the same data, as two processes would have."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
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


@pytest.fixture
def small() -> Iterator[Path]:
    """A file system of some megabytes."""
    owner = pwd.getpwnam("nobody").pw_uid  # as whom root's server runs
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        mount = ["mount", "-t", "tmpfs", "-o", f"size=16m,mode=700,uid={owner}", "tmpfs", folder]
        if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("nothing can be mounted here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
