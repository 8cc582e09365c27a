"""`make soak-brokers`: replicas of a broker under the traffic of 200 devices, killed at random; then an account.

Three real brokers on a real PostgreSQL server, behind a balancer that picks one for each connection. Every 1 to 3 s one
of them gets SIGKILL, or SIGTERM with `--drain`, and is started again; sometimes the server itself crashes. With
`--storage file` it is one broker of three processes on a file, of which any is killed. Devices with real keys announce
themselves, look each other up, invite, answer (sometimes two at once, differently), withdraw, and wait for changes.
Whoever does not know what became of a request asks again. Afterwards, with everything back:

- every acknowledged invitation is at its inviter and its invitee, in the same state; none was answered twice;
- no look-up was older than the sequence that had been acknowledged when it began, or showed what was withdrawn;
- who waited heard of every change, and not only when its wait was over; what it heard adds up to what is there;
- a device that its user took out is shown to nobody and reads nothing;
- each process ended as it was told to, has no traceback in its log, and as few descriptors as at first once the
  devices have left; no connection is left at the server.

Exits with 1 and the seed, and keeps the folder, if anything differs.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import traceback
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Final

import trio

from peer.protocol.errors import root_of
from rendezvous.storage.limits import StorageLimits
from tests.rendezvous.postgresql import Server
from tests.soak.broker_devices import Ledger, account, crowd
from tests.soak.broker_replicas import Replicas

MISHAPS: Final = (1.0, 3.0)
"""Seconds between two."""
SIGN_INS_AT_ONCE: Final = 30
COME_AND_GO: Final = 8 + StorageLimits().database_connections
"""Descriptors: connections to the database are opened as they are needed, and some clients' are just being closed."""


async def soak(
    folder: Path,
    *,
    seconds: float,
    devices: int,
    seed: int,
    server: Server | None,
    pause: tuple[float, float] = MISHAPS,
) -> list[str]:
    """Run it; return what is wrong. Prints what was done."""
    chance, ledger = random.Random(seed), Ledger()
    async with trio.open_nursery() as outer:
        replicas = await Replicas.make(folder, chance, database=server, nursery=outer)
        await replicas.until_well()
        at_first = replicas.used()
        async with AsyncExitStack() as stack:
            users = crowd(replicas.balancer.url, devices, ledger, chance)
            everybody = [device for user in users for device in user.devices]
            first = trio.CapacityLimiter(SIGN_INS_AT_ONCE)

            async with trio.open_nursery() as nursery:
                for device in everybody:
                    await stack.enter_async_context(device)

                    async def sign_in(device: object = device) -> None:
                        async with first:
                            await device.sign_in(device.user.device_set)  # type: ignore[attr-defined]

                    nursery.start_soon(sign_in)
            print(f"{devices} devices of {len(users)} users are signed in", flush=True)
            async with trio.open_nursery() as living, trio.open_nursery() as listening:
                for device in everybody:
                    living.start_soon(device.live, users)
                    listening.start_soon(device.listen)
                await replicas.storm(seconds, pause)
                living.cancel_scope.cancel()
                listening.cancel_scope.cancel()
            print(f"mishaps: {dict(sorted(replicas.mishaps.items()))}", flush=True)
            print(f"done: {dict(sorted(ledger.done.items()))}", flush=True)
            wrong = ledger.wrong
            wrong += await account(users, ledger)
            with_devices = replicas.used()
        wrong += await _used(replicas, at_first, with_devices)
        await replicas.close()
        outer.cancel_scope.cancel()
    return [*wrong, *await trio.to_thread.run_sync(replicas.complaints)]


async def _used(
    replicas: Replicas, at_first: dict[str, tuple[int, int]], with_devices: dict[str, tuple[int, int]]
) -> list[str]:
    """Print what each process uses, and return which keep descriptors although the devices have left."""
    with trio.move_on_after(10):  # the balancer's connections close one after the other
        while any(now > at_first[name][0] + COME_AND_GO for name, (now, _) in replicas.used().items()):
            await trio.sleep(0.2)
    wrong = []
    for name, (descriptors, memory) in replicas.used().items():
        before, between = at_first[name], with_devices.get(name, (0, 0))
        print(
            f"{name}: {before[0]}, {between[0]}, {descriptors} descriptors; {before[1]}, {between[1]}, {memory} MiB"
            " (at first, with all devices, after they left)",
            flush=True,
        )
        if descriptors > before[0] + COME_AND_GO:
            wrong.append(f"{name}: {descriptors} descriptors, {before[0]} at first")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak-brokers", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--storage", choices=("postgresql", "file"), default="postgresql")
    given = parser.parse_args()
    print(f"{given.minutes:g} minutes, --storage {given.storage} --seed {given.seed}", flush=True)
    top = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))
    server = None
    try:
        if given.storage == "postgresql":
            (place := top / "pg").mkdir()
            top.chmod(0o711)  # the server is another user's
            server = Server(place, fsync="on")
        run = partial(soak, top, seconds=60 * given.minutes, devices=given.devices, seed=given.seed, server=server)
        wrong = trio.run(run)
    except Exception as error:
        traceback.print_exception(root_of(error))  # the others are what came of it
        wrong = ["it did not come to its end"]
    finally:
        if server is not None:
            server.end()
    if wrong:
        print("\n".join(wrong))
        print(f"{len(wrong)} things are wrong; everything is in {top}, --seed {given.seed}")
        sys.exit(1)
    shutil.rmtree(top)
    print("nothing lost, nothing answered twice, nothing older than it was")


if __name__ == "__main__":
    main()
