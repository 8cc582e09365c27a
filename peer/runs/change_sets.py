"""The change set of a run: computed when the run has ended, whatever ended it, kept, loaded, and removed.

It is computed by a program of its own (`sandbox.changes`), since what it reads was made by a run. What becomes of its
entries is lander.py's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog
import trio

from peer.machine.installation import AGENT_ENVIRONMENT, CHANGES, ROOT
from peer.protocol.errors import Conflict, DispatchError, Internal, NotFound
from peer.runs.removal import Remover
from peer.steps import change_sets as steps
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import rows
from sandbox.changes.values import CHANGE_SET, ChangeSet, Entry
from sandbox.views.record import RECORDS, VIEWS

log = structlog.get_logger(__name__)

SECONDS: Final = 600.0
"""For the program: far more than its own bounds let it take."""
MAX_CHANGE_SET: Final = 256 * 1024 * 1024
"""Bytes of a changes.json."""
_COLLECTED: Final = "changes"
"""The folder in a run's folder in which the program leaves the change set."""


@dataclass(frozen=True)
class Collected:
    """A change set in its run's folder, before it is kept."""

    changes: ChangeSet
    folder: Path
    digest: bytes
    size: int

    @property
    def unmarked(self) -> frozenset[int]:
        """The numbers of the entries that need no choice of a person: without a mark and without a conflict."""
        return frozenset(entry.number for entry in self.changes.entries if entry.can_land and not entry.marks)

    def keep(
        self, tx: Transaction, dispatch_id: str, attempt: int, *, land: Collection[int] = ()
    ) -> rows.Landing | None:
        """Move it into the state folder and store it, if it says anything; see `steps.change_sets.keep`."""
        if not self.changes.entries and not self.changes.incomplete:
            return None
        waits = len(decidable(self.changes))
        item = rows.ChangeSetRow(
            dispatch_id,
            attempt,
            self.digest,
            len(self.changes.entries),
            waits,
            self.size,
            waits,
            "waiting" if waits else "closed",
            tx.now,
        )
        place = partial(_place, self.folder, steps.folder_of(tx.context.state, dispatch_id, attempt))
        return steps.keep(tx, item, place, land=land)


def decidable(changes: ChangeSet) -> frozenset[int]:
    """Return the numbers of the entries about which a person can decide."""
    return frozenset(entry.number for entry in changes.entries if is_decidable(entry))


def is_decidable(entry: Entry) -> bool:
    """Whether an entry could be put in place, now or when its conflict is gone."""
    return not entry.never and entry.change != "folded"


class ChangeSets:
    """Computes and keeps the change sets of this node's runs."""

    def __init__(self, journal: Journal, remover: Remover) -> None:
        """`remover` removes folders below the state folder's `changes`."""
        self._journal = journal
        self._state = journal.context.state
        self._remover = remover

    async def collect(self, run_dir: Path) -> Collected | None:
        """Compute the change set of a run whose last process has died; None for a run without views. Never raises.

        Where the program fails, the change set says so in `incomplete`.
        """
        if not (run_dir / VIEWS / RECORDS).exists():
            return None
        folder = run_dir / _COLLECTED
        await trio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))  # of a crash
        why = "the program that reads them did not end in time"
        try:
            with trio.move_on_after(SECONDS):
                done = await trio.run_process(
                    [*CHANGES, str(run_dir), str(folder)],
                    cwd=ROOT,
                    env=AGENT_ENVIRONMENT,
                    check=False,
                    capture_stdout=True,
                    capture_stderr=True,
                )
                if done.returncode == 0:
                    return await trio.to_thread.run_sync(_read, folder)
                why = f"the program that reads them ended with status {done.returncode}"
                log.error(
                    "changes.not_read", status=done.returncode, error=done.stderr[-2000:].decode(errors="replace")
                )
        except (OSError, DispatchError) as error:
            why = getattr(error, "strerror", None) or str(error)
        return await trio.to_thread.run_sync(_unread, folder, why)

    async def keep(self, dispatch_id: str, attempt: int, collected: Collected) -> None:
        """Keep a change set of a run that ended without a result. Raises DispatchError where the store cannot."""
        await self._journal.step(lambda tx: collected.keep(tx, dispatch_id, attempt))

    def load(self, item: rows.ChangeSetRow) -> ChangeSet:
        """Return a kept change set. Blocking. Raises Internal if it is not what was stored."""
        path = steps.folder_of(self._state, item.dispatch_id, item.attempt) / CHANGE_SET
        changes, digest = _decoded(path)
        if digest != item.digest:
            raise Internal(
                "the stored changes of this run were altered",
                fix=f"discard them: `dispatch discard {item.dispatch_id}`",
            )
        return changes

    def unfinished(self) -> Iterator[tuple[str, int, Path]]:
        """Yield (dispatch, attempt, folder) of runs whose end a crash interrupted and that had views. Blocking."""
        try:
            named = sorted(self._state.runs.iterdir())
        except FileNotFoundError:
            return
        for dispatch in named:
            if dispatch.name.startswith(".") or not dispatch.is_dir():
                continue
            for attempt in sorted(dispatch.iterdir()):
                if attempt.name.isdecimal() and (attempt / VIEWS / RECORDS).exists():
                    yield dispatch.name, int(attempt.name), attempt

    async def recover(self, dispatch_id: str, attempt: int, run_dir: Path) -> None:
        """Compute and keep the change set of a run that a crash interrupted."""
        collected = await self.collect(run_dir)
        if collected is not None:
            try:
                await self.keep(dispatch_id, attempt, collected)
            except (Conflict, NotFound):
                log.warning("changes.of_nothing", dispatch=dispatch_id)

    async def sweep(self) -> None:
        """Remove the contents that no row needs."""
        found: list[Path] = []
        await self._journal.step(lambda tx: steps.sweep(tx, found.append))
        for folder in found:
            await self._remover.remove(folder)


def _read(folder: Path) -> Collected:
    changes, digest = _decoded(folder / CHANGE_SET)
    return Collected(changes, folder, digest, size_of(folder))


def _decoded(path: Path) -> tuple[ChangeSet, bytes]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CHANGE_SET + 1)
        if len(raw) > MAX_CHANGE_SET:
            raise Internal("the list of changes is too long")
        return msgspec.json.decode(raw, type=ChangeSet), hashlib.sha256(raw).digest()
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Internal("the list of changes cannot be read") from error


def _unread(folder: Path, why: str) -> Collected:
    """A change set that says that what the run changed is not known."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    changes = ChangeSet(views=[], entries=[], incomplete=[f"what the run changed could not be read: {why}"])
    raw = msgspec.json.encode(changes)
    (folder / CHANGE_SET).write_bytes(raw)
    return Collected(changes, folder, hashlib.sha256(raw).digest(), len(raw))


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder that this program made. Blocking."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - os.walk's own
            except FileNotFoundError:
                continue
    return size


def _place(source: Path, target: Path) -> None:
    for folder in (target.parent.parent, target.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    if target.exists():
        # Of a crash between here and the commit.
        target.rename(target.with_name(f".{target.name}-{os.urandom(4).hex()}"))
    source.rename(target)
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
