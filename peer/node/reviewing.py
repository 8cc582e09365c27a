"""What runs changed, behind the API's routes: the list of changes, one as a diff, apply, discard, undo."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec
import trio

from peer.landing.commits import REFS, namespace
from peer.landing.engine import Refusal
from peer.node.colouring import Colouring
from peer.protocol.documents import Document
from peer.protocol.errors import Conflict, Invalid, NotFound
from peer.runs.change_sets import ChangeSets, is_decidable
from peer.runs.lander import Applied, Lander
from peer.steps import change_sets as steps
from peer.steps import receiving
from peer.steps.context import Context
from peer.store import change_sets, rows, trace
from peer.store.views import change_set_row
from sandbox.changes import display
from sandbox.changes.colours import Asked
from sandbox.changes.values import HEADS, ChangeSet, Entry
from sandbox.commits.values import Branch
from sandbox.gate import line_diff
from sandbox.views.record import ViewRecord

MAX_NAMED: Final = 1_000
"""Paths in one request."""
_WHOLE: Final = frozenset({"", "."})


class ReviewService:
    """Lists the changes of a run and carries out what the person decides about them."""

    def __init__(self, context: Context, sets: ChangeSets, lander: Lander) -> None:
        self._context = context
        self._sets = sets
        self._lander = lander
        self._colouring = Colouring()

    async def changes(
        self, dispatch_id: str, *, attempt: int | None, limit: int, after: int, counts: bool = False
    ) -> Document:
        """Return {…summary, folders, network, entries, more, next}: entries with a number of `after` or more.

        `network`: [{host, use}], what the run sent to and received from each host, as its trace says. `counts`: each
        entry has the numbers of its lines that are `added` and `removed`, null where there is no diff, or too much to
        count. Waits until a landing that is under way is over.
        """
        item, changes, landed = await self._settled(dispatch_id, attempt)
        shown = [entry for entry in changes.entries if entry.number >= after]
        entries = [_document(entry, item, changes, landed) for entry in shown[:limit]]
        if counts:
            roots = {view.number: Path(view.root) for view in changes.views}
            count = partial(display.line_counts, shown[:limit], roots, self._folder(item))
            counted = await trio.to_thread.run_sync(count)
            for entry in entries:
                entry["added"], entry["removed"] = counted.get(entry["number"], (None, None))
        used = await self._context.store.read(lambda db: trace.details(db, dispatch_id, item.attempt, "network_used"))
        return {
            **_summary(item, changes, landed),
            "network": [{"host": host, "use": use} for host, _, use in (each.partition(": ") for each in used)],
            "folders": [_folder(view.number, changes) for view in changes.views],
            "incomplete": [*changes.incomplete, *(each for view in changes.views for each in view.skipped)],
            "entries": entries,
            "more": len(shown) > limit,
            "next": shown[limit].number if len(shown) > limit else None,
        }

    async def diff(
        self,
        dispatch_id: str,
        *,
        attempt: int | None,
        number: int,
        context: int = line_diff.CONTEXT,
        colours: bool = False,
    ) -> Document:
        """Return one entry with its `diff`, "" for what has none. Raises NotFound.

        `context`: unchanged lines around each change. `colours`: instead {dispatch_id, number, colours}: what is
        keyword, string and so on in the old and new text (`sandbox.changes.colours`), null where that is not known.
        """
        item, changes, landed = await self._settled(dispatch_id, attempt)
        entry = next((each for each in changes.entries if each.number == number), None)
        if entry is None:
            raise NotFound(f"there is no change {number} in this list", fix=f"see `dispatch changes {dispatch_id}`")
        place = self._root(changes, entry), self._folder(item)
        if colours:
            return {"dispatch_id": dispatch_id, "number": number, "colours": await self._colours(entry, *place)}
        read = partial(display.diff_of, entry, *place, context=context)
        return {
            "dispatch_id": dispatch_id,
            **_document(entry, item, changes, landed),
            "diff": await trio.to_thread.run_sync(read),
        }

    async def _colours(self, entry: Entry, root: Path, folder: Path) -> Document | None:
        texts = await trio.to_thread.run_sync(display.texts_of, entry, root, folder)
        if texts is None:
            return None
        name = PurePosixPath(_text(entry.path) or root.name).name
        found = await self._colouring.colours(Asked(name=name, old=texts[0], new=texts[1]))
        return None if found is None else msgspec.to_builtins(found)

    async def apply(
        self,
        dispatch_id: str,
        *,
        attempt: int | None,
        digest: str,
        paths: Collection[str],
        numbers: Collection[int],
        everything: bool,
        marked: bool,
        dry_run: bool,
    ) -> Document:
        """Put chosen entries in place, all or none: {dispatch_id, ok, landed: [path], refused, left, …}.

        `irreversible`: paths among those landed that cannot be taken back, since their former content is not kept.
        `digest`: of the list that the person saw, or "". `paths`: as the list has them, or a folder: all unmarked
        entries in it. `numbers`: of entries. `everything`: all unmarked ones; with `marked`, those too. `merge`:
        commands that take commits which are in place now into the branch that the person is on.
        """
        item, changes, landed = await self._settled(dispatch_id, attempt)
        if digest and digest != item.digest.hex():
            raise Conflict("the changes are not the ones that you saw", fix=f"see `dispatch changes {dispatch_id}`")
        chosen = _chosen(dispatch_id, changes, landed, paths, numbers, everything=everything, marked=marked)
        if dry_run:
            would = await self._lander.dry_run(item, changes, chosen)
            done = frozenset(chosen) - {each.number for each in would.refusals}
            outcome = self._outcome(item, changes, landed, Applied(done, would.refusals, would.irreversible))
            return outcome | {"dry_run": True, "merge": []}
        applied = await self._lander.apply(item, changes, chosen)
        return self._outcome(item, changes, landed | applied.landed, applied)

    async def discard(self, dispatch_id: str, *, attempt: int | None) -> Document:
        """Throw away what waits: {dispatch_id, attempt, ok}."""
        item, _, _ = await self._settled(dispatch_id, attempt, unread=True)
        await self._lander.discard(item)
        return {"dispatch_id": dispatch_id, "attempt": item.attempt, "ok": True}

    async def undo(self, dispatch_id: str, *, attempt: int | None) -> Document:
        """Take back what was put in place last: {dispatch_id, attempt, ok, undone: [path], refused}."""
        item, changes, before = await self._settled(dispatch_id, attempt)
        applied = await self._lander.undo(item)
        _, _, after = await self._settled(dispatch_id, item.attempt)
        undone = before - after
        return {
            "dispatch_id": dispatch_id,
            "attempt": item.attempt,
            "ok": not applied.refused,
            "undone": [_path(entry) for entry in changes.entries if entry.number in undone],
            "refused": _refusals(changes, applied.refused),
        }

    async def _settled(
        self, dispatch_id: str, attempt: int | None, *, unread: bool = False
    ) -> tuple[rows.ChangeSetRow, ChangeSet, frozenset[int]]:
        """Return the change set that is meant, its content, and the numbers that are in place. Raises NotFound, Gone.

        `unread`: also for one whose content was altered; it is then empty.
        """

        def query(db: sqlite3.Connection) -> tuple[rows.ChangeSetRow, frozenset[int]]:
            receiving.get_received(db, dispatch_id)
            item = steps.latest(change_sets.of_dispatch(db, dispatch_id), dispatch_id, attempt)
            return item, change_sets.landed(db, dispatch_id, item.attempt)

        await self._lander.idle(dispatch_id)
        item, landed = await self._context.store.read(query)
        if unread:
            return item, ChangeSet(views=[], entries=[]), landed
        return item, await trio.to_thread.run_sync(self._sets.load, item), landed

    def _outcome(
        self,
        item: rows.ChangeSetRow,
        changes: ChangeSet,
        landed: frozenset[int],
        applied: Applied,
    ) -> Document:
        done = applied.landed
        left = [entry for entry in changes.entries if is_decidable(entry) and entry.number not in landed | done]
        return {
            "dispatch_id": item.dispatch_id,
            "attempt": item.attempt,
            "ok": not applied.refused,
            "landed": [_path(entry) for entry in changes.entries if entry.number in done],
            "refused": _refusals(changes, applied.refused),
            "left": [_path(entry) for entry in left],
            "irreversible": [_path(entry) for entry in changes.entries if entry.number in applied.irreversible & done],
            "merge": _merges((entry for entry in changes.entries if entry.number in done), item, changes),
        }

    def _root(self, changes: ChangeSet, entry: Entry) -> Path:
        return Path(next(view.root for view in changes.views if view.number == entry.view))

    def _folder(self, item: rows.ChangeSetRow) -> Path:
        return steps.folder_of(self._context.state, item.dispatch_id, item.attempt)


def _summary(item: rows.ChangeSetRow, changes: ChangeSet, landed: frozenset[int]) -> Document:
    open_entries = [entry for entry in changes.entries if is_decidable(entry) and entry.number not in landed]
    return change_set_row(item, len(landed)) | {
        "digest": item.digest.hex(),
        "marked": sum(bool(entry.marks) for entry in open_entries),
        "conflicts": sum(bool(entry.conflict) for entry in open_entries),
    }


def _folder(number: int, changes: ChangeSet) -> Document:
    view = next(each for each in changes.views if each.number == number)
    return {"number": number, "folder": view.root, "view": view.kind}


def _document(entry: Entry, item: rows.ChangeSetRow, changes: ChangeSet, landed: frozenset[int]) -> Document:
    view = next(each for each in changes.views if each.number == entry.view)
    return {
        "number": entry.number,
        "path": _path(entry),
        "folder": view.root,
        "change": entry.change,
        "kind": entry.kind,
        "size": entry.size,
        "count": entry.count,
        "executable": entry.executable,
        "target": _text(entry.target) or None,
        "renamed_from": _text(entry.renamed_from) or None,
        "marks": list(entry.marks),
        "conflict": entry.conflict or None,
        "never": entry.never or None,
        "landed": entry.number in landed,
        "branches": [_branch(each, item) for each in entry.branches],
    }


def _branch(branch: Branch, item: rows.ChangeSetRow) -> Document:
    """`ref`: how git finds it once it is in place, without `refs/` in front."""
    ref = f"{REFS}{namespace(item.dispatch_id, item.attempt)}/{branch.ref}".removeprefix("refs/")
    return {"name": _text(branch.name), "ref": ref, "commit": branch.tip}


def _merges(entries: Iterable[Entry], item: rows.ChangeSetRow, changes: ChangeSet) -> list[str]:
    """The commands, for the person's shell, that take commits that are in place into the branch they are on."""
    views = {view.number: view for view in changes.views}
    return [
        f"git -C {shlex.quote(_worktree(entry, views[entry.view]))} merge {_branch(branch, item)['ref']}"
        for entry in entries
        for branch in entry.branches
    ]


def _worktree(entry: Entry, view: ViewRecord) -> str:
    return view.repository or str(PurePosixPath(view.root, _text(entry.path.removesuffix(HEADS))).parent)


def _path(entry: Entry) -> str:
    # Of commits in a view that is the repository's own folder, nothing stands in front of HEADS.
    return _text(entry.path).removeprefix("/") or "."


def _text(raw: bytes) -> str:
    """Text for people and for choosing: what is no UTF-8 is escaped, and so cannot be mistaken for another name."""
    return raw.decode("utf-8", "backslashreplace")


def _refusals(changes: ChangeSet, refused: list[Refusal]) -> list[Document]:
    names: Mapping[int, str] = {entry.number: _path(entry) for entry in changes.entries}
    return [{"number": each.number, "path": names.get(each.number, ""), "reason": each.reason} for each in refused]


def _chosen(
    dispatch_id: str,
    changes: ChangeSet,
    landed: frozenset[int],
    paths: Collection[str],
    wanted: Collection[int],
    *,
    everything: bool,
    marked: bool,
) -> frozenset[int]:
    """The numbers of the entries that a request means. Raises Invalid, NotFound, Conflict."""
    listed = f"`dispatch changes {dispatch_id}`"
    if everything == bool(paths or wanted):
        raise Invalid("name what to apply, or all of it", fix=f"give paths from {listed}, or --all")
    if len(paths) + len(wanted) > MAX_NAMED:
        raise Invalid(
            f"{len(paths) + len(wanted)} changes are named; the limit is {MAX_NAMED} at once",
            fix="use --all, or name folders",
        )
    waits = [entry for entry in changes.entries if is_decidable(entry) and entry.number not in landed]
    if everything:
        chosen = [entry for entry in waits if entry.can_land and (marked or not entry.marks)]
        if not chosen:
            left = len(waits)
            raise Conflict(
                "every change that waits here has a mark or a conflict" if left else "no change waits here any more",
                fix=f"see {listed}; name the marked ones that you want, or add --marked for all of them"
                if left
                else "there is nothing left to do",
            )
        return frozenset(entry.number for entry in chosen)
    numbers = set(wanted)
    if not numbers <= {entry.number for entry in waits}:
        raise NotFound("one of these changes is not waiting", fix=f"see {listed}")
    for path in paths:
        found = _named(waits, changes, path, marked=marked)
        if not found:
            raise NotFound(f"no waiting change is called {path}", fix=f"see {listed}")
        numbers |= found
    return frozenset(numbers)


def _named(waits: list[Entry], changes: ChangeSet, path: str, *, marked: bool) -> set[int]:
    """What a path names: an entry, which may be marked, or a folder, of which all unmarked entries are meant."""
    roots = {view.number: view.root for view in changes.views}
    exact, inside = set(), set()
    for entry in waits:
        names = {_path(entry), str(PurePosixPath(roots[entry.view], _path(entry)))}
        if entry.change == "commits":  # its repository's `.git` means them, too: nothing else of that can be chosen
            names |= {name.removesuffix(_text(HEADS)) for name in names}
        wanted = path if path in _WHOLE else path.rstrip("/")
        if wanted in names:
            exact.add(entry.number)
        elif entry.can_land and (marked or not entry.marks) and any(name.startswith(f"{wanted}/") for name in names):
            inside.add(entry.number)
    return exact or inside
