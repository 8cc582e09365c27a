"""`make soak`: half an hour of traffic between real programs, one of them frozen for ten minutes; nothing may grow.

Two daemons and a broker; with `--relay` on machines that have only a relay between them. First comes a shorter piece of
traffic, after which everything is left alone until each dispatch has ended: what the programs use then is
what is compared with. In the midst of the traffic proper one daemon is stopped, and goes on later as after a sleep.
Then everything is left alone once more. Afterwards the account of traffic.py is made, and of each program:

- as many descriptors and threads as before, but for a few that come and go;
- at most 1.2 times the memory, and in the second half hardly more than in the first: what a store holds in memory is
  bounded, and fills at first.

Exits with 1 and keeps the folder if anything differs.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from tests.soak.traffic import (
    Place,
    account,
    apart,
    everything,
    leftovers,
    options,
    people_at,
    settle,
    side_by_side,
    start,
)

EVERY: Final = 4.0
"""Seconds between two sends of one person: an edge admits 1,000 a day."""
SPARE: Final = 150.0
"""Seconds after which connections that newer ones replaced are gone."""
WARM: Final = 0.2
"""Of the whole time: the traffic before the first count."""
COME_AND_GO: Final = 4
"""Connections and idle threads, which are there at one moment and not at the next."""
MOST_GROWTH: Final = 1.2
MOST_LATER: Final = 1.06
"""Of memory, and that of the second half alone."""


class Used(NamedTuple):
    """What a program has open and holds. `memory`: resident bytes."""

    descriptors: int
    threads: int
    memory: int


def used(place: Place) -> dict[str, Used]:
    """What each program uses now, by name."""
    found = {}
    for name, pid in place.running().items():
        process = psutil.Process(pid)
        found[name] = Used(process.num_fds(), process.num_threads(), process.memory_info().rss)
    return found


def grown(before: dict[str, Used], half: dict[str, Used], after: dict[str, Used]) -> list[str]:
    """Print all, and return what grew."""
    wrong = []
    for name, then in before.items():
        between, now = half[name], after[name]
        print(
            f"{name}: {then.descriptors}, {between.descriptors}, {now.descriptors} descriptors;"
            f" {then.threads}, {between.threads}, {now.threads} threads;"
            f" {then.memory >> 20}, {between.memory >> 20}, {now.memory >> 20} MiB"
            f" ({now.memory / then.memory:.2f} and {now.memory / between.memory:.2f} times)",
            flush=True,
        )
        if now.descriptors > then.descriptors + COME_AND_GO or now.threads > then.threads + COME_AND_GO:
            wrong.append(f"{name}: more descriptors or threads than before")
        if now.memory > then.memory * MOST_GROWTH or now.memory > between.memory * MOST_LATER:
            wrong.append(f"{name}: more memory than before")
    return wrong


def stop_for(minutes: float, place: Place) -> None:
    """Stop the second person's daemon, and let it go on."""
    program = place.people[1].program
    assert program is not None
    program.process.send_signal(signal.SIGSTOP)
    time.sleep(60 * minutes)
    program.process.send_signal(signal.SIGCONT)


def main() -> None:
    parser = options("make soak", __doc__.partition("\n")[0], minutes=30)
    parser.add_argument("--frozen", type=float, default=10, help="Minutes that one daemon is stopped.")
    given = parser.parse_args()
    print(f"{given.minutes:g} minutes, --seed {given.seed}", flush=True)
    top = Path(tempfile.mkdtemp(prefix="soak-"))
    with people_at(apart if given.relay else side_by_side, top / "people") as place:
        traffic = []

        def go_on(name: str, minutes: float, frozen: float = 0) -> dict[str, Used]:
            """Traffic for so many minutes, and what is used once all of it has ended."""
            now = start(place, given.seed, every=EVERY, name=name)
            time.sleep(60 * (minutes - frozen) / 2)
            if frozen:
                stop_for(frozen, place)
            time.sleep(60 * (minutes - frozen) / 2)
            settle(now)
            time.sleep(SPARE)
            traffic.append(now)
            return used(place)

        before = go_on("warm", given.minutes * WARM)
        half = go_on("first", given.minutes / 2, min(given.frozen, given.minutes / 2))
        wrong = grown(before, half, go_on("second", given.minutes / 2))
        *earlier, last = traffic
        for each in earlier:
            for mine, whole in zip(each, last, strict=True):
                whole.acknowledged += mine.acknowledged
                whole.broken += mine.broken
        wrong += [line for at in (0, 1) for line in account(last[at], last[1 - at], top, stopped=at == 0)]
        wrong += leftovers(place)
        print(f"{sum(len(everything(person, 'sent')) for person in place.people)} dispatches", flush=True)
    if wrong:
        print("\n".join(wrong))
        print(f"{len(wrong)} things are wrong; everything is in {top}")
        sys.exit(1)
    shutil.rmtree(top)
    print("nothing lost, nothing run twice, nothing grown")


if __name__ == "__main__":
    main()
