"""How the tests share the machine: several workers, and a few tests that need it to themselves.

A fork bomb leaves no process for anybody else, so tests marked `alone` run while every other worker waits.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")  # how long an example takes is a matter of the machine

MOST_WORKERS = 8
LOCKS = pytest.StashKey[Path]()
"""A folder that all workers of one run know."""


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: most of what a test waits for is other processes, or a deadline."""
    return min(len(os.sched_getaffinity(0)) + 1, MOST_WORKERS)


def pytest_configure(config: pytest.Config) -> None:
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    if given is not None:
        config.stash[LOCKS] = Path(given["locks"])
        return
    folder = tempfile.TemporaryDirectory(prefix="dispatch-tests-")
    config.add_cleanup(folder.cleanup)
    config.stash[LOCKS] = Path(folder.name)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker that is about to start."""
    node.workerinput["locks"] = str(node.config.stash[LOCKS])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test beside those of other workers; one marked `alone` after them, and before all that come later."""
    with _turn(item.config.stash[LOCKS], alone=item.get_closest_marker("alone") is not None):
        return (yield)


@contextmanager
def _turn(locks: Path, *, alone: bool) -> Iterator[None]:
    """Hold the machine, alone or with others. Whoever waits for it holds the door, so that nobody else slips in."""
    with (locks / "door").open("wb") as door, (locks / "machine").open("wb") as machine:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
