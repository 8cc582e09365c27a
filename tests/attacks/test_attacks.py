"""Every attempt, outside and in the sandbox: outside it succeeds, inside it meets exactly the refusal it names."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import trio

from sandbox.confinement.profile import View
from tests.attacks.harness import Made, Outcomes, confined, outside
from tests.attacks.inside import AGENT, ATTACKS, REACHED
from tests.attacks.world import World, planted
from tests.sandbox.conftest import NO_OVERLAY
from tests.sandbox.trees import Tree, tree

ROOT = os.geteuid() == 0
HERE = [name for name, one in ATTACKS.items() if not (ROOT and one.ordinary_only)]
"""What this user tries."""


@pytest.fixture(scope="module")
def outcomes() -> tuple[Outcomes, Made]:
    """(inside, outside) of all attempts, made once."""
    with planted() as world:
        inside = trio.run(lambda: confined(world, HERE))
        return inside, outside(world, HERE)


def test_there_are_enough() -> None:
    assert len(ATTACKS) >= 60
    shown = [one for one in ATTACKS.values() if not (one.untestable or one.machine)]
    assert len(shown) >= 60


@pytest.mark.parametrize("place", ["agent", "shell"])
@pytest.mark.parametrize("name", HERE)
def test_refused(outcomes: tuple[Outcomes, Made], name: str, place: str) -> None:
    one = ATTACKS[name]
    if place not in one.refused:
        return
    outcome, detail = outcomes[0][place][name]
    mine_outside = (one.root_only and not ROOT) or one.machine
    if mine_outside and outcome != REACHED and outcome == outcomes[1].get(name, ("", ""))[0]:
        return  # what this kernel or this user does not have, they do not have inside either
    assert outcome in one.refused[place].split("|"), (outcome, detail)


@pytest.mark.parametrize("name", HERE)
def test_possible_outside(outcomes: tuple[Outcomes, Made], name: str) -> None:
    one = ATTACKS[name]
    outcome, detail = outcomes[1].get(name, ("untestable", one.untestable))
    if one.root_only and not ROOT:
        assert outcome != REACHED, "not for root alone"
    elif outcome != REACHED:
        assert one.untestable or one.machine, (outcome, detail)


OBEYED = [name for name in HERE if name.startswith("config: ") and "launcher" not in name]
"""Attempts at what this machine would obey later, in folders that the run may write."""


def originals(world: World) -> list[Tree]:
    return [tree(root.path) for root in world.profile.roots]


@pytest.mark.parametrize("no_overlay", [pytest.param(NO_OVERLAY, id="overlay"), pytest.param("a test", id="copy")])
def test_whatever_is_written_the_originals_stay(no_overlay: str) -> None:
    with planted(no_overlay=no_overlay) as world:
        before = originals(world)
        made = trio.run(lambda: confined(world, HERE))
        assert originals(world) == before
    done = {name for name in OBEYED if made[AGENT][name][0] == REACHED}
    assert len(done) > len(OBEYED) * 3 / 4, "in its view the run may do most of it"


def test_without_a_view_they_would_not() -> None:
    with planted() as world:
        before = originals(world)
        bare = tuple(
            replace(root, view=View(root.path, root.path)) if root.writable else root for root in world.profile.roots
        )
        trio.run(lambda: confined(replace(world, profile=replace(world.profile, roots=bare)), OBEYED))
        assert originals(world) != before
