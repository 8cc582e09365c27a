"""One world for all system tests, and two people in it who are put right again before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import preloaded
from tests.system.world import ALL_TOOLS, Person, World, clean_environment, connect, connected


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    preloaded.begin(clean_environment(folder))
    made = World(folder)
    try:
        yield made
    finally:
        made.close()


class Pair:
    """Alice, who may dispatch to Bob."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alice, self.bob = world.people_named("alice", "bob")
        connect(self.alice, self.bob)

    def restore(self) -> None:
        """Everything up, the edge in force and as it was at first."""
        if self.world.broker.program is None:
            self.world.broker.start()
        fallen = [person for person in (self.alice, self.bob) if not person.up]
        for person in fallen:
            person.stop()
            person.launch()
        for person in fallen:
            person.ready()
        for person in (self.alice, self.bob):
            person.will()
            person.end_runs()
        edge = self.bob.edge(self.alice, "incoming")
        if edge is None or edge["status"] not in ("active", "paused", "offered"):
            connect(self.alice, self.bob)
            return
        if edge["status"] == "paused":
            self.bob.client.resume_trust(self.alice.email)
        for rule in self.bob.client.trust(self.alice.email)["rules"]:
            self.bob.client.edit_trust(self.alice.email, {"remove_rule": rule["id"]})
        first = {"tools": ALL_TOOLS, "approval": "manual", "max_per_day": 1000, "results": "full", "paths": "none"}
        first |= {"apply": "review", "toolchains": "default", "network": "none"}
        first |= {
            "budget": {"minutes": 60, "turns": 100, "usd": 5.0, "output_bytes": 100 << 20, "network_bytes": 1000 << 20}
        }
        first["mcp_servers"] = "none"
        self.bob.client.edit_trust(self.alice.email, first)
        connected(self.alice, self.bob)


@pytest.fixture(scope="session")
def _pair(world: World) -> Pair:
    return Pair(world)


@pytest.fixture
def pair(_pair: Pair) -> tuple[Person, Person]:
    """(alice, bob), both up, Alice may dispatch to Bob: every tool, manual."""
    _pair.restore()
    return _pair.alice, _pair.bob
