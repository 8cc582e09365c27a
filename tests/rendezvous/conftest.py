"""Fixtures of the broker's tests; what they are made of is in world.py."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from tests.rendezvous.postgresql import Server
from tests.rendezvous.world import USUAL_DATABASE, People, Running, people_at, running_broker


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A program that a test runs in this process sets where it logs to, for whatever comes after it."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    yield
    structlog.reset_defaults()
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server for every test that needs no other; each has a database of its own."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop("immediate")
        shutil.rmtree(folder)


ON_BOTH = (
    "test_bounds",
    "test_invitations",
    "test_join_pages",
    "test_mail",
    "test_presence",
    "test_relay_access",
    "test_rotation",
    "test_signin",
    "test_writes",
)
"""Modules whose brokers run on a file, and in a second round on PostgreSQL."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    starts_one = {"broker", "people", "tmp_path"} & set(metafunc.fixturenames)
    if metafunc.module.__name__.rpartition(".")[2] in ON_BOTH and starts_one:
        metafunc.fixturenames.append("each_database")
        metafunc.parametrize("each_database", ["file", "postgresql"], indirect=True)


@pytest.fixture
def each_database(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the brokers of this test keep what they know."""
    if request.param == "postgresql":
        USUAL_DATABASE.new = request.getfixturevalue("postgresql").database
    yield
    USUAL_DATABASE.new = None


@pytest.fixture
def own() -> Iterator[Server]:
    """A server for one test, which may do to it what it likes."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder))
        try:
            yield server
        finally:
            server.end()


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Running]:
    """A development broker on a real socket."""
    async with running_broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
async def people(broker: Running, tmp_path: Path) -> AsyncIterator[People]:
    """Makes people at `broker`."""
    async with people_at(broker, tmp_path / "people") as people:
        yield people
