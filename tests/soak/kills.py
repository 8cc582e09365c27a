"""`make soak-kills`: real programs under constant traffic, one of them SIGKILLed every 0.5 to 3 s, then an account.

Two daemons and a broker; with `--relay` on machines that have only a relay between them, which is killed too. Each
person sends dispatches with a file to the other, and accepts what arrives; a run leaves one line with the dispatch's
name in a folder of its own and returns the file. Whichever program chance picks is killed and started again at once,
also while it starts. Afterwards everything is left alone until each dispatch has ended, and the account is made:

- every send that was acknowledged is there, completed, on both sides, and so is every other that a store knows;
- no attempt ran twice: a dispatch has at most as many lines as attempts, and at least one;
- every returned file equals the one that was sent, every receipt verifies;
- no process, mount or run folder is left, every blob belongs to a dispatch, and no dispatch lacks one;
- the daemons use at most 1.3 times the memory of two that did as much without being killed.

Exits with 1 and keeps the folder if anything differs.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

from peer.protocol.errors import DispatchError
from tests.soak.traffic import (
    Place,
    account,
    apart,
    everything,
    leftovers,
    memory,
    options,
    settle,
    side_by_side,
    traffic_at,
)
from tests.system.world import Person, eventually

PAUSE: Final = (0.5, 3.0)
"""Seconds between two kills."""
MOST_GROWTH: Final = 1.3


def kill_for(seconds: float, place: Place, chance: random.Random) -> Counter[str]:
    """Kill one of the programs after the other and start it again; return how often each was killed."""
    killed: Counter[str] = Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(chance.uniform(*PAUSE))
        victim = chance.choice(sorted(place.restart))
        place.restart[victim]()
        killed[victim] += 1
    return killed


def main() -> None:
    parser = options("make soak-kills", __doc__.partition("\n")[0], minutes=10)
    given = parser.parse_args()
    place = apart if given.relay else side_by_side
    print(f"{given.minutes:g} minutes, --seed {given.seed}", flush=True)
    top = Path(tempfile.mkdtemp(prefix="soak-"))

    with traffic_at(place, top / "storm", given.seed) as (found, traffic):
        killed = kill_for(given.minutes * 60, found, random.Random(given.seed))
        print(f"killed: {dict(killed)}; settling", flush=True)
        for person in found.people:
            eventually(partial(_serves, person), what=f"{person.name}'s daemon")
        settle(traffic)
        wrong = [line for at in (0, 1) for line in account(traffic[at], traffic[1 - at], top)]
        wrong += leftovers(found)
        after = memory(found)
        sends = [len(everything(each.person, "sent")) for each in traffic]
        acknowledged = [len(each.acknowledged) for each in traffic]
        attempts = sum(row["attempt"] for each in traffic for row in everything(each.person, "received").values())
    print(f"{sum(sends)} dispatches, {sum(acknowledged)} acknowledged, {attempts} attempts", flush=True)

    with traffic_at(place, top / "calm", given.seed) as (found, traffic):
        while min(len(each.acknowledged) for each in traffic) < min(sends) and not any(each.broken for each in traffic):
            time.sleep(1)
        settle(traffic)
        calm = memory(found)
    for name, size in after.items():
        ratio = size / calm[name]
        print(f"{name}: {size >> 20} MiB, {ratio:.2f} times a calm run's", flush=True)
        if ratio > MOST_GROWTH:
            wrong.append(f"{name}: {size:,} bytes of memory, {calm[name]:,} without kills")
    if wrong:
        print("\n".join(wrong))
        print(f"{len(wrong)} things are wrong; everything is in {top}")
        sys.exit(1)
    shutil.rmtree(top)
    print("nothing lost, nothing run twice, nothing left")


def _serves(person: Person) -> bool:
    try:
        person.client.whoami()
    except DispatchError:
        return False
    return True


if __name__ == "__main__":
    main()
