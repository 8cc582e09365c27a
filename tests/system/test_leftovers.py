"""What a run leaves on disk stops no daemon: not at the run's end, and not at the daemon's next start."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.runs.removal import TRASH, Pass
from tests.system.world import Person, eventually

Pair = tuple[Person, Person]

# Run by the agent in its workspace. The names are single bytes, so that the tree is deep rather than large.
LEAVING = """
import os
home = os.open(".", os.O_RDONLY)
os.makedirs("closed/inner")
open("closed/inner/file", "w").close()
os.mkfifo("fifo")
os.mkdir(b"\\xff\\xfe")
os.symlink("/", "link")
for name, levels in (("deep", 3000), ("out", 40)):
    os.makedirs(name, exist_ok=True)
    os.chdir(name)
    for _ in range(levels):
        os.mkdir("d")
        os.chdir("d")
    open("bottom", "w").close()
    os.fchdir(home)
os.chmod("closed/inner", 0)
os.chmod("closed", 0)
"""


@pytest.fixture(autouse=True)
def _cleared(pair: Pair) -> Iterator[None]:
    """What a failed test leaves would end pytest's own clean-up, which is recursive."""
    yield
    while (one := Pass(pair[1].state.runs)).advance(1_000_000) or one.removed:
        pass


def test_a_run_that_leaves_a_hostile_tree_stops_neither_the_daemon_nor_its_next_start(pair: Pair) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will(
        {"tool": "Write", "input": {"file_path": "/dispatch/leave.py", "content": LEAVING}},
        {"tool": "Bash", "input": {"command": "cd /dispatch && python3 leave.py && echo left"}},
        {"say": "done"},
    )
    dispatch_id = alice.client.send(bob.email, "Leave something")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    bob.state_of(dispatch_id, "completed")
    events = bob.client.dispatch(dispatch_id)["events"]
    outputs = [event["output"] for event in events if event["kind"] == "tool_result"]
    assert outputs[-1].strip() == "left", outputs
    assert any("too deep" in str(event) for event in events), "what is not returned is said"
    alice.state_of(dispatch_id, "completed")
    eventually(lambda: not bob.run_folders() and not bob.trash(), what="the run's folder removed")
    assert bob.up, bob.program and bob.program.errors()
    bob.stop()
    # As a crash leaves it: in its place, and half removed.
    for place in (bob.state.runs / "left-over/1", bob.state.runs / TRASH / "half"):
        _plant(place)
    bob.start()
    assert bob.run_folders() == []
    eventually(lambda: not bob.trash(), what="what lay there at the start removed")


def _plant(place: Path) -> None:
    place.mkdir(parents=True)
    at = os.open(place, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"/proc/self/fd/{at}/socket")
    for _ in range(1_500):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    place.chmod(0)
