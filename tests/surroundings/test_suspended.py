"""A machine that is suspended while a run waits for its person: nothing is lost, and the run goes on.

Suspended by SIGSTOP, the daemon, dp-agent and all that it confines. A real suspend also lets the wall clock jump, which
is test_clocks.py's.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.surroundings.story import somebody, tell
from tests.system.world import Person, World, descendants, eventually


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_run_that_waits_is_suspended_and_goes_on(alice: Person, world: World, tmp_path: Path) -> None:
    bob = somebody(world, "sleeper", tmp_path / "bob")
    bob.start()

    def suspended(dispatch_id: str) -> None:
        assert bob.program is not None
        everything = [bob.program.pid, *descendants(bob.program.pid)]
        assert len(everything) > 3, "the daemon, the agent and its sandbox"
        for pid in everything:
            os.kill(pid, signal.SIGSTOP)
        eventually(lambda: all(map(stopped, everything)), what="everything stopped")
        # Meanwhile another task comes; it waits at Alice.
        late = alice.client.send(bob.email, "Later")
        for pid in reversed(everything):
            os.kill(pid, signal.SIGCONT)
        assert bob.state_of(dispatch_id, "running")["status"] == "running"
        alice.state_of(late["dispatch_id"], "pending")
        bob.client.decline(late["dispatch_id"])

    tell(alice, bob, tmp_path / "back", meanwhile=suspended)
