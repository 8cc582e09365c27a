"""One world, and in it Alice, whose machine is as most are. Each test gives somebody else a machine to have."""

from __future__ import annotations

import pytest

from tests.system.conftest import world
from tests.system.world import Person, World

__all__ = ["alice", "world"]


@pytest.fixture(scope="session")
def alice(world: World) -> Person:
    return world.person("alice")
