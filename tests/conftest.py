"""How the tests share the machine, how long they wait, and how many examples a property gets. What they check is
elsewhere.

Several workers run side by side. A test marked `alone` (a fork bomb leaves no process for anybody else) runs while
every other worker waits, and after all others, so that they wait once.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

sys.dont_write_bytecode = False
"""Rewriting assertions is half of what collecting costs, and each worker collects: it is done once and kept, also where
the surroundings ask for no compiled files."""

SLOWER = int(os.environ.get("TESTS_SLOWER", "1"))
"""How many times as long everything may take: more than once where the processor is emulated (tests/kernels)."""

HANG = 180.0 * SLOWER
"""Seconds after which whatever a test waits for is taken to hang. No measure of how long anything may take: on a
machine that is busy with other things every wait still ends long before."""

EXAMPLES = 50
"""Examples of a property in the profiles `default` and `ci`; `long` has twenty times as many."""

# How long an example takes is a matter of the machine, so none has a deadline.
hypothesis.settings.register_profile("default", max_examples=EXAMPLES, deadline=None)
hypothesis.settings.register_profile(
    "ci", max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.register_profile("long", max_examples=EXAMPLES * 20, deadline=None)
hypothesis.settings.load_profile("default")  # unless --hypothesis-profile names another


def few(examples: int, **more: Any) -> hypothesis.settings:
    """Settings of a property with slow examples: this many of them, more in `long` as for every other property."""
    return hypothesis.settings(max_examples=examples * hypothesis.settings().max_examples // EXAMPLES, **more)


def more(*values: object) -> list[Any]:
    """Values of a parameter that `make test` leaves to `make test-long`: the same again. For `parametrize`."""
    return [pytest.param(value, marks=pytest.mark.long) for value in values]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory. What is killed in a test is not the machine, so nothing need reach a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


MOST_WORKERS = 8
LOCKS = pytest.StashKey[Path]()
"""A folder that all workers of one run know."""


def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: most of what a test waits for is other processes, or a person who reads."""
    return min(len(os.sched_getaffinity(0)) * 2, MOST_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that need the machine to themselves last."""
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


def pytest_configure(config: pytest.Config) -> None:
    # A shell without job control starts what it puts in the background with Ctrl-C ignored, and programs inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
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


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Run a test beside those of other workers; one marked `alone` after them, and before all that come later.

    First of all that wrap a test: the time that it waits here is none of what pytest-timeout gives it.
    """
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
