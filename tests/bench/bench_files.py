"""Fifty files of 5 MB from Alice's daemon to Bob's inbox, beside one bare libp2p stream that carries as many bytes.

The transfer is measured from outside, on two real daemons: from the moment `POST /v1/dispatches` is answered (files
copied, hashed and fsynced, the dispatch durable at Alice) until it stands as `pending` in Bob's store (every file
fetched, verified and fsynced). The bare stream writes to memory and verifies nothing; what hashing and writing alone
cost on this disk is measured beside it.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import trio

from tests.bench._bare import Bare, bare
from tests.bench._pair import Watch, pair
from tests.bench._table import Line, p50, show
from tests.system.world import Person

ROUNDS = 3
FILES, SIZE = 50, 5_000_000
TOTAL_MB = FILES * SIZE / 1e6
GOAL_RATIO, GOAL_MB_S = 0.8, 150.0


async def measure(alice: Person, bob: Person, stock: Bare) -> dict[str, list[float]]:
    """Return MB/s of each, taken in turns."""
    taken: dict[str, list[float]] = {name: [] for name in ("bare", "disk", "taken in", "delivered", "whole")}
    with closing(Watch(bob)) as his:
        for number in range(ROUNDS):
            files = await trio.to_thread.run_sync(make_files, alice.home / f"round{number}")
            start = time.perf_counter()
            await stock.copy(FILES * SIZE)
            taken["bare"].append(TOTAL_MB / (time.perf_counter() - start))
            start = time.perf_counter()
            await trio.to_thread.run_sync(hash_and_write, bob.home / "plain")
            taken["disk"].append(TOTAL_MB / (time.perf_counter() - start))
            start = time.perf_counter()
            send = partial(alice.client.send, bob.email, f"Round {number}", files=[str(path) for path in files])
            sent = (await trio.to_thread.run_sync(send))["dispatch_id"]
            answered = time.perf_counter()
            end = await trio.to_thread.run_sync(his.until, sent, "pending")
            taken["taken in"].append(TOTAL_MB / (answered - start))
            taken["delivered"].append(TOTAL_MB / (end - answered))
            taken["whole"].append(TOTAL_MB / (end - start))
    return taken


def make_files(folder: Path) -> list[Path]:
    """Write files of random bytes, no two alike, and let the disk finish."""
    folder.mkdir()
    paths = [folder / f"part{number}.bin" for number in range(FILES)]
    for path in paths:
        path.write_bytes(os.urandom(SIZE))
    os.sync()
    return paths


def hash_and_write(path: Path) -> None:
    """Hash, write and fsync as many bytes in as many files, from memory, one after the other."""
    piece = os.urandom(1 << 20)
    for _ in range(FILES):
        hasher, left = hashlib.sha256(), SIZE
        with path.open("wb", buffering=0) as file:
            while left:
                part = piece[:left]
                hasher.update(part)
                file.write(part)
                left -= len(part)
            os.fsync(file.fileno())
        path.unlink()


async def main() -> None:
    with pair() as (alice, bob):
        async with bare() as stock:
            taken = await measure(alice, bob, stock)
    base = p50(taken["bare"])

    def line(what: str, key: str, goal: str = "", met: bool | None = None) -> Line:
        speed = p50(taken[key])
        each = " ".join(f"{value:.0f}" for value in taken[key])
        return Line(what, f"{speed:.0f} MB/s ({each})", speed / base, "bare stream", goal, met)

    delivered = p50(taken["delivered"]) / base
    show(
        f"{FILES} files of {SIZE / 1e6:g} MB, {ROUNDS} times",
        [
            line("bare libp2p stream, to memory", "bare", f">= {GOAL_MB_S:g} MB/s", base >= GOAL_MB_S),
            line("no network: hash, write, fsync", "disk"),
            line("delivered (queued -> Bob's inbox)", "delivered", f">= {GOAL_RATIO:g}x", delivered >= GOAL_RATIO),
            line("before it: taken in at Alice", "taken in"),
            line("both: command -> Bob's inbox", "whole"),
        ],
    )


if __name__ == "__main__":
    trio.run(main)
