"""Puts chosen changes of a run into the person's folders, whole or not at all, and takes them back. Blocking calls.

All checks come first, then everything new is staged beside its place and synced, then the steps are made: renames
alone, and refs for commits (commits.py). Until the record that commits them exists, anything that goes wrong takes all
of them back. Former contents go to the landing's journal, where undo finds them: 1 GiB together (`planning.MAX_KEPT`);
what has no place there is put in place or deleted all the same, and undo refuses it. Owner, access list and attributes
of a changed file are those of the one that it replaces; of a new file, what its folder gives.

A file system that cannot exchange two names in one step gets no changes; a sentence says so. What a program writes
through a file that it opened before a landing is noticed where the kernel gives leases; elsewhere (files of another
user, network file systems) such a write may end in the former content that is kept.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

import structlog

from peer.landing import commits as repositories
from peer.landing import journal as records
from peer.landing import tree as places
from peer.landing.journal import Commits, Identity, Journal, Move, Plan, Root
from peer.landing.placing import Mover, Way, put_beside
from peer.landing.planning import Planner, Refusal
from peer.landing.tree import Obstacle, Tree, Unreachable, opened, sentence
from peer.landing.undoing import Undo, undo_commits
from sandbox.changes.values import Entry
from sandbox.views.record import ViewRecord

__all__ = ["Forecast", "Refusal", "apply", "dry_run", "irreversible", "resume", "undo"]

log = structlog.get_logger(__name__)

_BESIDE: Final = "you changed it at the same moment: your change stays, and the version before it is kept beside it"
_NO_PLACE: Final = places.NO_WAY | {errno.ENOTEMPTY, errno.EEXIST}
"""Errors of a step whose folder was moved away, which trying again does not mend."""


class Forecast(NamedTuple):
    """`refusals`: what could not be put in place; `irreversible`: numbers of entries whose former content would not be
    kept, so that they could not be taken back.
    """

    refusals: list[Refusal]
    irreversible: frozenset[int]


def dry_run(folder: Path, chosen: Sequence[Entry], views: Mapping[int, ViewRecord], *, namespace: str = "") -> Forecast:
    """Return what would become of the chosen entries as the folders are now. Writes nothing.

    Of kept contents only the sizes are compared, and of commits whether the repository is there, without such refs.
    """
    with _planned(folder, chosen, views, namespace, locked=False) as (planner, _, _):
        return Forecast(list(planner.refusals.values()), _irreversible(planner.moves))


def irreversible(journal: Path) -> frozenset[int]:
    """Return the numbers of the entries that a landing put in place and that cannot be taken back."""
    plan = Journal(journal).read(records.PLAN, Plan)
    return frozenset() if plan is None else _irreversible(plan.moves)


def _irreversible(moves: Sequence[Move]) -> frozenset[int]:
    return frozenset(move.number for move in moves if not move.kept)


def apply(
    folder: Path, chosen: Sequence[Entry], views: Mapping[int, ViewRecord], journal: Path, *, namespace: str = ""
) -> list[Refusal]:
    """Put all of `chosen` in place, or nothing: then return what stood in the way.

    `folder`: the change set's, with its contents. `journal`: a new folder of this landing, kept for `undo` if it was
    made. `namespace`: of the refs that commits get (commits.py). Raises OSError if what was put in place cannot be
    taken back now; `resume` then does.
    """
    record = Journal(journal)
    if resume(journal) == "applied":
        raise FileExistsError(errno.EEXIST, "a landing was made with this journal", str(journal))
    with _planned(folder, chosen, views, namespace) as (planner, tree, roots):
        if planner.refusals:
            return list(planner.refusals.values())
        try:
            record.create()
        except OSError as error:
            why = f"it was not applied, because the record for undo cannot be written: {error.strerror}"
            return [Refusal(entry.number, why) for entry in chosen]
        return _land(folder, Plan(roots=roots, moves=planner.moves, commits=planner.commits), tree, record)


def resume(journal: Path) -> Literal["applied", "nothing"]:
    """Finish or take back a landing that a crash interrupted at any moment, and say which. Safe to repeat.

    Raises OSError while a folder that it is about cannot be reached.
    """
    record = Journal(journal)
    plan = record.read(records.PLAN, Plan)
    if plan is None:
        record.discard()
        return "nothing"
    with opened(plan.roots) as (tree, failed):
        for each in failed.values():
            if not each.gone:
                raise OSError(errno.ENODEV, each.reason)
        moves = {step: move for step, move in enumerate(plan.moves) if move.view not in failed}
        if record.has(records.COMMITTED):
            _finish(moves, tree, record)
            return "applied"
        placed = record.read(records.PLACED, records.Identities)
        commits = [step for step in plan.commits if step.view not in failed]
        _roll_back(moves, commits, Mover(tree, record), tree, record, None if placed is None else placed.of)
    return "nothing"


def undo(journal: Path) -> list[Refusal]:
    """Take back what a landing put in place, file by file; return what stays since it was changed, and why.

    Safe to repeat: after a crash, and for what stayed. Raises OSError, FileNotFoundError if nothing was put in place.
    """
    record = Journal(journal)
    plan = record.read(records.PLAN, Plan)
    if plan is None or not record.has(records.COMMITTED):
        raise FileNotFoundError(errno.ENOENT, "no landing was made with this journal", str(journal))
    with opened(plan.roots) as (tree, failed):
        if not record.has(records.UNDO):
            _finish({step: move for step, move in enumerate(plan.moves) if move.view not in failed}, tree, record)
        return sorted([*Undo(plan, tree, failed, record).run(), *undo_commits(plan.commits, tree, failed)])


@contextmanager
def _planned(
    folder: Path, chosen: Sequence[Entry], views: Mapping[int, ViewRecord], namespace: str, *, locked: bool = True
) -> Iterator[tuple[Planner, Tree, dict[int, Root]]]:
    roots: dict[int, Root] = {}
    files: dict[int, bytes] = {}
    unknown: dict[int, Unreachable] = {}
    for number in {entry.view for entry in chosen}:
        view = views.get(number)
        if view is None:
            unknown[number] = Unreachable("it is not in a granted folder")
        elif any(entry.view == number and not entry.path for entry in chosen):
            parent, name = os.path.split(view.root)
            try:
                about = Path(parent).stat()
            except OSError:
                unknown[number] = Unreachable("the folder of the file that was granted is no longer there")
                continue
            roots[number] = Root(path=parent, device=about.st_dev, inode=about.st_ino)
            files[number] = os.fsencode(name)
        else:
            roots[number] = Root(path=view.root, device=view.device, inode=view.inode)
    with opened(roots, locked=locked) as (tree, failed):
        planner = Planner(tree, failed | unknown, files, folder, namespace)
        planner.plan(chosen)
        yield planner, tree, roots


def _land(folder: Path, plan: Plan, tree: Tree, record: Journal) -> list[Refusal]:
    mover = Mover(tree, record)
    moves = dict(enumerate(plan.moves))
    placed: dict[int, Identity] | None = None
    numbers = [*(move.number for move in plan.moves), *(each.number for each in plan.commits)]
    number = numbers[0] if numbers else 0
    try:
        record.write(records.PLAN, plan)
        staged: dict[int, Identity] = {}
        for step, move in moves.items():
            number = move.number
            mover.copy_away(step, move)
            if (identity := mover.stage(move, folder)) is not None:
                staged[step] = identity
        mover.sync_staged()
        record.write(records.PLACED, records.Identities(of=staged))
        placed = staged
        for commits in plan.commits:
            number = commits.number
            repositories.bring(commits, tree, folder)
        for move in plan.moves:
            number = move.number
            mover.make(move)
        mover.check_still_there(plan.moves)
        tree.sync()
        for commits in plan.commits:
            number = commits.number
            repositories.make_refs(commits, tree)
        record.write(records.COMMITTED)
    except (Obstacle, OSError) as error:
        mover.forget_staged()
        if not record.has(records.COMMITTED):
            beside = _roll_back(moves, plan.commits, mover, tree, record, placed)
            why = Refusal(number, sentence(error) if isinstance(error, OSError) else str(error))
            return [why, *(each for each in beside if each.number != number)]
    _finish(moves, tree, record)
    return []


def _roll_back(
    moves: Mapping[int, Move],
    commits: Sequence[Commits],
    mover: Mover,
    tree: Tree,
    record: Journal,
    placed: Mapping[int, Identity] | None,
) -> list[Refusal]:
    """Take every step back, and forget the landing. `placed`: None if no step can have been made.

    Returns whose former content lies beside its place now, since a newer edit keeps that. Raises OSError.
    """
    beside: list[Refusal] = []

    def leave(_: int, move: Move, stage: int, folder: int) -> None:
        put_beside(stage, move.staged, folder, move.parts[-1])
        beside.append(Refusal(move.number, _BESIDE))

    way = Way(
        placed or {},
        is_old=lambda step, identity: identity != (placed or {}).get(step),
        leave=leave,
    )
    failed: OSError | None = None
    for each in reversed(commits):
        try:
            if placed is not None and (why := repositories.take_back(each, tree)):
                log.info("landing.newer_edit", why=why)
        except Obstacle as error:
            log.warning("landing.not_taken_back", why=str(error))
        except OSError as error:
            log.warning("landing.not_taken_back", why=error.strerror)
            failed = error
    for step, move in reversed(list(moves.items())):
        try:
            if placed is not None and (why := mover.take_back(step, move, way)):
                log.info("landing.newer_edit", why=why)
            mover.drop_staged(move)
        except Obstacle as error:
            log.warning("landing.not_taken_back", why=str(error))
        except OSError as error:
            log.warning("landing.not_taken_back", why=error.strerror)
            if error.errno not in _NO_PLACE:
                failed = error
    if failed is not None:
        raise failed
    tree.sync()
    record.discard()
    return beside


def _finish(moves: Mapping[int, Move], tree: Tree, record: Journal) -> None:
    """Move former contents to the journal after the commit. What cannot be moved stays for the next time."""
    mover = Mover(tree, record)
    for step, move in moves.items():
        try:
            mover.keep(step, move)
        except (OSError, Obstacle) as error:
            log.warning("landing.not_kept", why=str(error))
    try:
        record.sync()
        tree.sync()
    except OSError as error:
        log.warning("landing.not_synced", why=error.strerror)
