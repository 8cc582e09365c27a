"""`make soak-brokers` for some seconds: enough that each kind of mishap comes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rendezvous.postgresql import Server
from tests.soak.brokers import soak


@pytest.fixture(params=["postgresql", "file"])
def server(request: pytest.FixtureRequest) -> Iterator[Server | None]:
    """A server whose crashes lose nothing, or None for a file."""
    if request.param == "file":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = Server(Path(folder), fsync="on")
        try:
            yield made
        finally:
            made.end()


@pytest.mark.long
async def test_nothing_is_lost_or_answered_twice_while_brokers_are_killed(
    tmp_path: Path, server: Server | None
) -> None:
    """Seen to fail with a nonce that is used in a transaction of its own."""
    assert await soak(tmp_path, seconds=12, devices=16, seed=7, server=server, pause=(0.5, 1.5)) == []
