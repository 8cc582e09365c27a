"""The watch over a run's two trees, with plain processes in their place where the order of two ends is what counts."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from sandbox.confinement import Limits
from sandbox.confinement.bubblewrap import watchdog
from sandbox.confinement.bubblewrap.watchdog import Watchdog
from sandbox.confinement.interface import Excess


class Tree:
    """A process in the place of bwrap. It tells its child's number only when it is asked to."""

    def __init__(self, opened: ExitStack) -> None:
        self.process = subprocess.Popen(["/bin/sleep", "1000"])
        opened.callback(self.end)
        self.info, self._writing = os.pipe2(os.O_CLOEXEC)

    def tell(self, child: int | None = None) -> None:
        os.write(self._writing, json.dumps({"child-pid": child or self.process.pid}).encode())
        os.close(self._writing)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def end_untold(self) -> None:
        self.end()
        os.close(self._writing)


@pytest.fixture
def trees() -> Iterator[tuple[Tree, Tree]]:
    with ExitStack() as opened:
        yield Tree(opened), Tree(opened)


def begun(*trees: Tree) -> Watchdog:
    watched = Watchdog(Limits())
    watched.begin([(tree.process.pid, tree.info) for tree in trees])
    return watched


def test_a_run_that_is_over_before_its_zone_was_built_is_a_run_that_ended(trees: tuple[Tree, Tree]) -> None:
    """Seen on a busy machine: an agent that had nothing to do was told to have lost its shells."""
    agent, zone = trees
    agent.tell()
    watched = begun(agent, zone)
    agent.end()
    zone.end_untold()
    assert watched.ended() is None


def test_a_zone_that_ended_unbuilt_ends_the_run(trees: tuple[Tree, Tree]) -> None:
    agent, zone = trees
    agent.tell()
    watched = begun(agent, zone)
    zone.end_untold()
    assert watched.ended() == Excess("shells")
    assert agent.process.wait(60) == -9


def test_a_run_that_nobody_can_measure_is_ended(trees: tuple[Tree, Tree], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither process has a /proc of its own, as if both were still being built."""
    monkeypatch.setattr(watchdog, "_BUILT_WITHIN", 0.05)
    for tree in trees:
        tree.tell()
    assert begun(*trees).ended() == Excess("sight")


def test_the_agent_executes_nothing_more_when_its_shells_end(
    trees: tuple[Tree, Tree], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen on a busy machine: the kernel ended a thousand processes of the shells before the one that the agent's hang
    on, and the agent reported what it had made of it. Its program ends by itself here, with no parent that takes it
    along, as there is no pid namespace."""
    monkeypatch.setattr(watchdog, "_BUILT_WITHIN", 0.05)
    agent, zone = trees
    child = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert child.stdout is not None
        grandchild = os.pidfd_open(int(child.stdout.readline()))
        ended: list[bool] = []

        def kill(tree: watchdog._Tree) -> None:
            ended.append(watchdog._has_ended(grandchild, 20))

        monkeypatch.setattr(watchdog._Tree, "kill", kill)
        agent.tell(child.pid)
        zone.tell()
        assert begun(agent, zone).ended() == Excess("sight")
        assert len(ended) > 1 and all(ended)
    finally:
        child.kill()
        child.wait(60)


@pytest.fixture
def parent() -> Iterator[int]:
    """A process with one child."""
    script = "sleep 1000 & echo; wait"
    process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout is not None and process.stdout.readline()
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def test_a_run_is_killed_where_nothing_more_can_be_opened(
    trees: tuple[Tree, Tree], parent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail where that error was not caught: agent and zone lived on, and nobody watched them."""
    monkeypatch.setattr(watchdog, "_BUILT_WITHIN", 0.05)
    opening, opened = os.pidfd_open, list[int]()

    def full(pid: int) -> int:
        if len(opened) == 4:  # of both trees, what confines and what is confined
            raise OSError(errno.EMFILE, "too many open files")
        opened.append(opening(pid))
        return opened[-1]

    monkeypatch.setattr(os, "pidfd_open", full)
    trees[0].tell(parent)
    trees[1].tell()
    with opening_pidfd(opening, parent) as ends:
        watched = begun(*trees)
        assert watchdog._has_ended(ends, 20)
    assert watched.ended() == Excess("sight")
    assert [each.process.wait(60) for each in trees] == [-9, -9]


def test_no_child_of_a_process_that_got_the_number_of_another(trees: tuple[Tree, Tree], parent: int) -> None:
    with opening_pidfd(os.pidfd_open, parent) as lives, opening_pidfd(os.pidfd_open, trees[0].process.pid) as ended:
        trees[0].end()
        assert watchdog._oldest_child(parent, ended) is None
        child = watchdog._oldest_child(parent, lives)
        assert child is not None
        os.close(child)


@contextmanager
def opening_pidfd(opening: Callable[[int], int], pid: int) -> Iterator[int]:
    pidfd = opening(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)
