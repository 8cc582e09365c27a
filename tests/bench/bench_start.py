"""How long a daemon takes from the start of its process until its API answers, with an empty store and a filled one.

The base is the same interpreter importing py-libp2p and nothing else, which every node must do.
"""

from __future__ import annotations

import subprocess
import sys
import time

from peer.client import Client, DaemonUnreachable
from tests.system.world import Person

ROUNDS = 7
INBOX = 1_000
LOOK_SECONDS = 0.002


def imported(person: Person) -> float:
    """Import the library in a new process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import libp2p"], env=person.environment, check=True)
    return time.perf_counter() - start


def started(person: Person) -> float:
    """Start the daemon, wait for the first answer of its API, stop it."""
    start = time.perf_counter()
    person.launch()
    while True:
        try:
            Client(person.state).approvals()
            break
        except DaemonUnreachable:
            time.sleep(LOOK_SECONDS)
    taken = time.perf_counter() - start
    person.stop()
    return taken
