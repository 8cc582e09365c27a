"""Taking back a landing that was made, file by file. When that may be, and what is recorded of it: engine.py."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from peer.landing import commits as repositories
from peer.landing import journal as records
from peer.landing import tree as places
from peer.landing.journal import Commits, Identity, Journal, Move, Plan
from peer.landing.placing import Mover, Way, put_beside
from peer.landing.planning import Refusal
from peer.landing.tree import Obstacle, Tree, Unreachable, sentence

log = structlog.get_logger(__name__)


class Undo:
    """One undo of a landing, or the rest of one that was interrupted.

    First the former contents are staged beside their places and that is recorded, then the steps are taken back and
    that is recorded, last the staged names are cleared.
    """

    def __init__(self, plan: Plan, tree: Tree, failed: Mapping[int, Unreachable], record: Journal) -> None:
        self._moves = plan.moves
        self._tree = tree
        self._failed = failed
        self._record = record
        self._mover = Mover(tree, record)
        self._refused: dict[int, Refusal] = {}

    def run(self) -> list[Refusal]:
        """Take back what can be, once more for what could not; return the entries that stay. Raises OSError."""
        done = self._steps(records.UNDONE)
        todo = sorted({*range(len(self._moves))} - {*done})
        taken = sorted({*self._steps(records.UNDO)} - {*done})
        staged = self._record.read(records.STAGED, records.Identities)
        if self._failed and self._record.has(records.UNDO):
            # What an interrupted undo staged there has to be found before anything else is done.
            reason = next(iter(self._failed.values())).reason
            for step in todo:
                self._refuse(self._moves[step], reason)
            return sorted(self._refused.values())
        if staged is None:
            self._unstage(taken)
            self._check(todo)
            taken = [step for step in todo if self._moves[step].number not in self._refused]
            self._record.write(records.UNDO, records.Taken(steps=taken))
            staged = records.Identities(of=self._stage(taken))
            self._record.write(records.STAGED, staged)
        else:
            self._check(sorted({*todo} - {*taken}))
        self._take_back(taken, staged.of)
        self._tree.sync()
        done += [step for step in taken if self._moves[step].number not in self._refused]
        # Until this is written everything that came out has its staged name, by which a crash is told apart.
        self._record.write(records.UNDONE, records.Taken(steps=done))
        self._clear(done)
        self._record.remove(records.STAGED)
        self._record.remove(records.UNDO)
        return sorted(self._refused.values())

    def _steps(self, name: str) -> list[int]:
        found = self._record.read(name, records.Taken)
        return [] if found is None else found.steps

    @contextmanager
    def _refusing(self, move: Move) -> Iterator[None]:
        try:
            yield
        except Obstacle as error:
            self._refuse(move, str(error))
        except OSError as error:
            self._refuse(move, sentence(error))

    def _refuse(self, move: Move, why: str) -> None:
        self._refused.setdefault(move.number, Refusal(move.number, why))

    def _check(self, steps: Collection[int]) -> None:
        """Refuse every entry whose places do not hold what was put there, or whose former content is not kept."""
        for step in steps:
            move = self._moves[step]
            with self._refusing(move):
                if move.view in self._failed:
                    raise Obstacle(self._failed[move.view].reason)
                if move.has_content and not self._record.has_old(step):
                    raise Obstacle("its former content was too large to be kept")
                if (why := self._difference(move)) and not move.implied:
                    raise Obstacle(why)

    def _difference(self, move: Move) -> str:
        if move.action == "remove" or (move.after is not None and move.after.kind == "folder"):
            return ""  # seen when it is taken back, since what is in folders goes and comes first
        assert move.after is not None
        try:
            folder, name = self._tree.folder(move.view, move.parts[:-1]), move.parts[-1]
            if move.action == "add" and places.status(folder, name) is None:
                return ""
        except OSError as error:
            if move.action == "add" and error.errno in places.NO_WAY:
                return ""
            raise
        return places.difference(folder, name, move.after)

    def _stage(self, steps: Sequence[int]) -> dict[int, Identity]:
        staged: dict[int, Identity] = {}
        for step in steps:
            move = self._moves[step]
            if move.has_content:
                with self._refusing(move):
                    self._mover.stage_old(step, move)
                    identity = self._mover.staged_identity(move)
                    assert identity is not None
                    staged[step] = identity
                if step not in staged:
                    self._back_to_journal(step)  # half of it may be there, on a disk that is full
        self._mover.sync_staged()
        return staged

    def _unstage(self, steps: Sequence[int]) -> None:
        """Put back into the journal what an undo staged that took back nothing yet."""
        for step in steps:
            if self._moves[step].has_content:
                self._back_to_journal(step)

    def _back_to_journal(self, step: int) -> None:
        try:
            self._mover.unstage_old(step, self._moves[step])
        except (OSError, Obstacle) as error:
            log.warning("undo.not_put_away", why=str(error))

    def _take_back(self, steps: Sequence[int], staged: Mapping[int, Identity]) -> None:
        placed = self._record.read(records.PLACED, records.Identities)
        way = Way(
            {} if placed is None else placed.of,
            is_old=lambda step, identity: staged.get(step) == identity,
            leave=self._leave,
        )
        taken: list[int] = []
        for step in reversed(steps):
            move = self._moves[step]
            if move.number not in self._refused:
                with self._refusing(move):
                    why = self._take_one(step, move, way)
                    if not why:
                        taken.append(step)
                    elif not move.implied:
                        raise Obstacle(why)
        for step in steps:
            # What was staged for an entry that stays, and the half of a rename that was taken back already.
            move = self._moves[step]
            if move.number in self._refused:
                if move.has_content and step not in taken:
                    self._back_to_journal(step)
                elif step in taken and move.action == "add":
                    with self._refusing(move):
                        self._mover.give_back(move)

    def _take_one(self, step: int, move: Move, way: Way) -> str:
        if move.action == "remove" and not move.has_content:
            self._mover.make_folder(move)
            return ""
        if move.has_content and self._record.has_old(step) and self._mover.staged_identity(move) is None:
            # Before a crash it was refused, or, of something removed, the copy of it is in its place already.
            return "" if move.action == "remove" and self._is_restored(move) else places.CHANGED
        return self._mover.take_back(step, move, way)

    def _is_restored(self, move: Move) -> bool:
        assert move.before is not None
        folder = self._tree.known_folder(move.view, move.parts[:-1])
        return not places.difference(folder, move.parts[-1], move.before)

    def _leave(self, step: int, move: Move, stage: int, folder: int) -> None:
        assert move.before is not None
        if places.difference(stage, move.staged, move.before):
            put_beside(stage, move.staged, folder, move.parts[-1])
        else:
            self._mover.unstage_old(step, move)

    def _clear(self, steps: Sequence[int]) -> None:
        for step in steps:
            try:
                self._record.old(step).unlink(missing_ok=True)
                self._mover.drop_staged(self._moves[step])
            except (OSError, Obstacle) as error:
                log.warning("undo.not_cleared", why=str(error))


def undo_commits(steps: Sequence[Commits], tree: Tree, failed: Mapping[int, Unreachable]) -> list[Refusal]:
    """Remove the refs that a landing made; return the entries whose refs stay, and why. Safe to repeat."""
    refused = []
    for step in steps:
        try:
            why = failed[step.view].reason if step.view in failed else repositories.take_back(step, tree)
        except Obstacle as error:
            why = str(error)
        except OSError as error:
            why = sentence(error)
        if why:
            refused.append(Refusal(step.number, why))
    return refused
