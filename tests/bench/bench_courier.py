"""How long a dispatch takes to be acknowledged in an inbox, beside one bare libp2p request and response.

Measured from outside, on two real daemons: from the first byte of `POST /v1/dispatches` to Alice's daemon, until the
dispatch stands as `pending` in Bob's store (in the inbox), and until it stands so in Alice's (acknowledged). In it are
one HTTP request, signing, verifying, and three durable commits one after the other: hers, his, and hers of his answer.

The base is a request on a stream of its own, which is how libp2p's request-response protocols work; beside it stands
one on a stream that is open already, as the courier's is.
"""

from __future__ import annotations

import time
from contextlib import closing

import trio

from tests.bench._bare import ECHO, Bare, bare
from tests.bench._disk import commit_seconds, fsync_seconds
from tests.bench._pair import Watch, pair
from tests.bench._table import Line, ms, p50, show
from tests.system.world import Person

ROUNDS = 200
WARM_UP = 20
TASK = "Look why the cart adds up wrongly. " * 20
GOAL_RATIO, GOAL_MS = 3.0, 20.0


async def measure(alice: Person, bob: Person, stock: Bare) -> dict[str, list[float]]:
    """Take turns, so that a busy moment of the machine strikes all of them."""
    taken: dict[str, list[float]] = {name: [] for name in ("fsync", "commit", "open", "new", "api", "queued")}
    taken |= {"inbox": [], "acknowledged": []}
    opened = await stock.stream(ECHO)
    with closing(Watch(alice)) as hers, closing(Watch(bob)) as his:

        def dispatch() -> None:
            start = time.perf_counter()
            alice.client.approvals()
            taken["api"].append(time.perf_counter() - start)
            start = time.perf_counter()
            sent = alice.client.send(bob.email, TASK)["dispatch_id"]
            taken["queued"].append(time.perf_counter() - start)
            taken["inbox"].append(his.until(sent, "pending") - start)
            taken["acknowledged"].append(hers.until(sent, "pending") - start)

        for number in range(WARM_UP + ROUNDS):
            if number == WARM_UP:
                for values in taken.values():
                    values.clear()
            start = time.perf_counter()
            await stock.ask(opened, bytes(1024))
            taken["open"].append(time.perf_counter() - start)
            if number % 2:  # a stock host keeps something of each stream for ever: fewer of these
                start = time.perf_counter()
                await stock.ask_anew(bytes(1024))
                taken["new"].append(time.perf_counter() - start)
            await trio.to_thread.run_sync(dispatch)
            taken["fsync"] += fsync_seconds(alice.home, 1)
    taken["commit"] = commit_seconds(alice.home, ROUNDS)
    return taken


async def main() -> None:
    with pair() as (alice, bob):
        async with bare() as stock:
            taken = await measure(alice, bob, stock)
    base, opened = p50(taken["new"]), p50(taken["open"])
    acknowledged = p50(taken["acknowledged"])
    names = {
        "fsync": "disk: append 4 KiB, fsync",
        "commit": "SQLite: one 1 KiB row, committed",
        "open": "bare: 1 KiB on an open stream",
        "new": "bare: 1 KiB request and response",
        "api": "loopback API: one empty question",
        "queued": "send: answered (durable at Alice)",
        "inbox": "send: in Bob's inbox (durable there)",
    }
    against = "bare request"
    lines = [Line(text, ms(taken[key]), p50(taken[key]) / base, against) for key, text in names.items()]
    lines += [
        Line(
            "send: acknowledged",
            ms(taken["acknowledged"]),
            acknowledged / base,
            against,
            f"<= {GOAL_RATIO:g}x",
            acknowledged <= GOAL_RATIO * base,
        ),
        Line(
            "",
            "",
            acknowledged / opened,
            "bare on an open stream",
            f"<= {GOAL_RATIO:g}x",
            acknowledged <= GOAL_RATIO * opened,
        ),
        Line("", "", None, "", f"p50 <= {GOAL_MS:g} ms", acknowledged * 1e3 <= GOAL_MS),
    ]
    show(f"One warm dispatch, {ROUNDS} times", lines)


if __name__ == "__main__":
    trio.run(main)
