"""Using up the machine with many small things, none of which the kernel refuses: the watch outside ends the run. Each
attempt is made once more without the watch, where it must succeed. Single calls are in table/exhaustion.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.confinement import Excess, Limits, Profile
from sandbox.confinement.bubblewrap import spawn
from sandbox.confinement.bubblewrap.watchdog import Watchdog
from sandbox.run import budget_messages
from tests.conftest import HANG
from tests.sandbox.conftest import KILLED, Done, Person, finish, person
from tests.sandbox.node import dp_agent, members_of, start

__all__ = ["person"]
ROOT = os.geteuid() == 0
MIB = 1024 * 1024
SMALL = Limits(memory=256 * MIB, processes=200 if ROOT else 4096)
"""Bounds of the same kinds as a run's own, so that little is really taken."""
SMALL_DISK = replace(SMALL, disk=48 * MIB, files=1_500)
"""What others write meanwhile counts against these too, so whoever is given them needs the machine alone."""
PRELUDE = """
import ctypes, mmap, os, socket, sys, threading, time


def children(count, work):
    # Each does its work, and stays: return once all of them have.
    reading, writing = os.pipe()
    for _ in range(count):
        if os.fork() == 0:
            held = work()
            os.write(writing, b".")
            time.sleep(3600)
            os._exit(0)
    done = 0
    while done < count:
        done += len(os.read(reading, count))
"""
STAY = "time.sleep(3600 if watched else 0); print('reached', flush=True)"


@dataclass(frozen=True)
class Attempt:
    """A Python program that says `reached` when it has what it wanted; watched, it then waits for its end."""

    what: str
    program: str
    ordinary: bool = True
    """Whether an ordinary user's run meets the watch too, and not a refusal of the kernel before it."""

    @property
    def alone(self) -> bool:
        """Whether anybody else's files or processes would count too."""
        return self.what in ("disk", "files", "room") or not (ROOT or self.ordinary)

    @property
    def limits(self) -> Limits:
        # 200 copies of Python may have as much memory as is too much, before anybody has counted them.
        found = SMALL_DISK if self.what in ("disk", "files", "room") else SMALL
        return replace(found, memory=1024 * MIB) if self.what == "processes" else found


ATTEMPTS = {
    "many processes each below the limit of one": Attempt("memory", "children(8, lambda: bytearray(48 << 20))"),
    "processes that nobody may look at": Attempt(
        "memory",
        """
def unseen():
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    return bytearray(48 << 20)


children(8, unseen)
""",
    ),
    "orphans in sessions of their own": Attempt(
        "memory",
        """
def leaving():
    os.setsid()
    if os.fork():
        os._exit(0)
    return bytearray(48 << 20)


children(8, leaving)
""",
    ),
    "memory as files in every place in memory": Attempt(
        "memory",
        """
for place, size in (("/tmp", 160), ("/dev/shm", 112)):
    with open(place + "/large", "wb") as file:
        for _ in range(size):
            file.write(bytes(1 << 20))
""",
    ),
    "empty files in memory without end": Attempt(
        "memory",
        """
folder = 0
while watched and folder < 400 or folder < 2:
    os.mkdir(f"/dev/shm/{folder}")
    for number in range(2_000):
        os.mknod(f"/dev/shm/{folder}/{number}")
    folder += 1
""",
    ),
    "memory in tables of pages": Attempt(
        "memory",
        """
def tables():
    holes = mmap.mmap(-1, 30 << 30, flags=mmap.MAP_PRIVATE | 0x4000, prot=mmap.PROT_READ)
    for at in range(0, 30 << 30, 2 << 20):  # a page of table for each, and of memory only the page of zeros
        holes[at]
    return holes


children(8, tables)
""",
    ),
    "words that nobody reads": Attempt(
        "memory",
        """
pairs = [socket.socketpair() for _ in range(900)]
for one, _ in pairs:
    one.setblocking(False)
    try:
        while True:
            one.send(bytes(1000))
    except BlockingIOError:
        pass
""",
    ),
    "a fork bomb": Attempt(
        "processes",
        """
children(500, lambda: None)
""",
        ordinary=False,
    ),
    "threads without end": Attempt(
        "processes",
        """
threading.stack_size(64 * 1024)
for _ in range(500):
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
""",
        ordinary=False,
    ),
    "a large workspace": Attempt(
        "disk",
        """
for number in range(8):
    with open(str(number), "wb") as file:
        file.write(bytes(8 << 20))
""",
    ),
    "a workspace of many files": Attempt(
        "files",
        """
for number in range(2_000):
    os.mknod(str(number))
""",
    ),
    "a large file without a name": Attempt(
        "room",
        """
file = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
os.posix_fallocate(file, 0, 160 << 20)
""",
    ),
    "a large file in a folder of the persons": Attempt(
        "room",
        """
with open(project + "/large", "wb") as file:
    for _ in range(160):
        file.write(bytes(1 << 20))
    os.fsync(file.fileno())
""",
    ),
}


async def made(profile: Profile, attempt: Attempt, *, watched: bool) -> tuple[Done, Excess | None]:
    given = f"watched = {watched}; project = {str(profile.roots[0].inside)!r}\n"
    program = f"{PRELUDE}\n{given}{attempt.program}\n{STAY}"
    command = ["/run/dispatch/shell", "--exec", "/usr/bin/python3", "-ISc", program]
    process = await spawn(profile, command, profile.environment())
    return await finish(process, HANG), await process.excess()


def among(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.alone if ATTEMPTS[name].alone else ()) for name in names]


@pytest.mark.parametrize("name", among(ATTEMPTS))
async def test_the_run_is_ended(person: Person, name: str) -> None:
    attempt = ATTEMPTS[name]
    limits = attempt.limits if ROOT or attempt.ordinary else replace(attempt.limits, processes=200)
    profile = replace(person.profile, limits=limits)
    done, excess = await made(profile, attempt, watched=True)
    if not ROOT and not attempt.ordinary:
        assert excess is None and done.code != 0 and "reached" not in done.out
        assert "Resource temporarily unavailable" in done.err or "can't start new thread" in done.err
        return
    assert excess is not None and excess.what == attempt.what, (excess, done)
    assert excess.used < excess.bound if attempt.what == "room" else excess.used > excess.bound
    assert done.code in KILLED and "reached" not in done.out


@pytest.mark.long
@pytest.mark.parametrize("name", among(name for name, one in ATTEMPTS.items() if ROOT or one.ordinary))
async def test_without_the_watch_it_succeeds(person: Person, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(Watchdog, "_processes", lambda self: None)
    monkeypatch.setattr(Watchdog, "_disk", lambda self: None)
    done, excess = await made(replace(person.profile, limits=ATTEMPTS[name].limits), ATTEMPTS[name], watched=False)
    assert (done.code, done.out.strip(), excess) == (0, "reached", None), done.err


async def test_what_processes_share_counts_once(person: Person) -> None:
    program = """
held = bytearray(96 << 20)
children(6, lambda: held)
"""
    done, excess = await made(replace(person.profile, limits=SMALL), Attempt("", program), watched=False)
    assert (done.code, excess) == (0, None), done.err


async def test_a_run_out_of_sight_is_ended(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.confinement.bubblewrap.watchdog._BUILT_WITHIN", 0.1)
    monkeypatch.setattr("sandbox.confinement.bubblewrap.watchdog.RunProcesses", _refusing)
    done, excess = await made(person.profile, Attempt("sight", ""), watched=True)
    assert done.code in KILLED and excess == Excess("sight")


def _refusing(*_: object) -> object:
    raise PermissionError("not yours to look at")


FORKS = """python3 -c 'import os, time
for _ in range(1500):
    if os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(3600)
        os._exit(0)
time.sleep(3600)'"""
"""The one that forks stays, so that the command lasts until the run is ended."""
BOMB = "bomb() { bomb | bomb & }; bomb; sleep 3600"
"""The one that everybody knows, which the kernel would let others slow down without end. How long it takes to end is
the kernel's: it has some ten thousand processes to take down."""


@pytest.mark.alone
@pytest.mark.parametrize("command", [FORKS, pytest.param(BOMB, marks=pytest.mark.long)], ids=["forks", "bomb"])
async def test_a_whole_run_says_which_bound_it_passed(tmp_path: Path, command: str) -> None:
    """With a run's own bounds."""
    if not ROOT and command == BOMB:
        return  # an ordinary user's is refused by the kernel, as the other
    bomb = {"tool": "Bash", "input": {"command": command}}
    async with dp_agent(within=HANG * 3) as node:
        finished = await node.run(start(tmp_path, bomb, {"say": "survived"}, approval="auto"))
        assert await node.process.wait() == 0
        assert members_of(node.process.pid) <= {node.process.pid}
    if ROOT:
        assert (finished.status, finished.code) == ("failed", budget_messages.EXHAUSTED_CODE)
        assert "the run reached its limit of 1,024 processes and threads" in (finished.reason or "")
        assert finished.reply == ""
    else:
        assert finished.status == "completed", finished.reason
        assert "Resource temporarily unavailable" in node.results[0][1]


def test_the_words() -> None:
    gib = 1024 * MIB
    assert budget_messages.excess(Excess("memory", 9 * gib, 8 * gib)) == (
        "the run reached its limit of 8.00 GB of memory: it used 9.00 GB"
    )
    for what in ("processes", "disk", "files", "room", "inodes", "sight", "shells"):
        assert budget_messages.excess(Excess(what, 3, 2))
