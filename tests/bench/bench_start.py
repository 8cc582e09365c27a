"""How long a daemon takes from the start of its process until its API answers, with an empty store and a filled one.

The base is the same interpreter importing py-libp2p and nothing else, which every node must do.
"""

from __future__ import annotations

import subprocess
import sys
import time

from peer.client.blocking import Client, DaemonUnreachable
from tests.bench._pair import fill, pair
from tests.bench._table import Line, ms, p50, show
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


def table(title: str, person: Person) -> None:
    taken: dict[str, list[float]] = {"import": [], "daemon": []}
    for number in range(ROUNDS + 1):
        times = {"import": imported(person), "daemon": started(person)}
        if number:  # the first writes bytecode
            for name, value in times.items():
                taken[name].append(value)
    base = p50(taken["import"])
    show(
        title,
        [
            Line("python -c 'import libp2p'", ms(taken["import"]), 1.0, "import libp2p"),
            Line(
                "dispatch-daemon, until its API answers",
                ms(taken["daemon"]),
                p50(taken["daemon"]) / base,
                "import libp2p",
            ),
        ],
    )


def main() -> None:
    with pair() as (alice, bob):
        alice.stop()
        bob.stop()
        table(f"Start of a daemon, {ROUNDS} times", bob)
        fill(alice, bob, INBOX)
        table(f"The same with {INBOX:,} dispatches in its store", bob)


if __name__ == "__main__":
    main()
