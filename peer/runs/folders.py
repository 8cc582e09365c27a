"""Where an accepted dispatch runs: the suggestion from the project index, the person's choice and its checks.

A path from the sender is never used. A run sees a granted folder at its real path; in what leaves this machine, the
project's name stands in place of that path (peer.dispatches.folder_names).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from subprocess import DEVNULL
from typing import NamedTuple

import msgspec
import structlog
import trio

from peer.dispatches import placement
from peer.machine.all_state_folders import all_state_folders
from peer.machine.installation import AGENT_ENVIRONMENT, NAMESPACE, ROOT
from peer.machine.settings import Settings
from peer.projects import git_folders, lock_files
from peer.projects.git_folders import GitFolder
from peer.projects.index import ProjectIndex
from peer.projects.matching import NOTHING, Suggestion, placed
from peer.protocol.documents import Document
from peer.protocol.errors import Conflict, DispatchError
from peer.runs import reach
from peer.runs.obstacles import obstacles
from peer.runs.toolchains import toolchains
from peer.steps import receiving, running
from peer.steps.context import Context
from peer.trust import paths
from peer.trust.filesystem import LocalFacts
from peer.trust.scopes import Scope
from sandbox import platforms
from sandbox.policy.decision import WRITING_TOOLS
from sandbox.views.foretold import left_out

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 300.0
_SEES = "shell commands also see {}, the repository that this folder belongs to, with its whole history"
_ASKING_SECONDS = 10.0


class _Looked(NamedTuple):
    """What a person is told of a folder: sentences about what will not work, and the toolchains seen there."""

    obstacles: list[str]
    toolchains: list[str]


class RunFolders:
    """Suggests and checks the folder of a run, from the node's project index."""

    def __init__(self, context: Context, settings: Callable[[], Settings]) -> None:
        self._context = context
        self._settings = settings
        self._index: ProjectIndex | None = None
        self._fresh: tuple[float, tuple[str, ...]] = (float("-inf"), ())
        self._refreshing = trio.Lock()
        self._asking = trio.Lock()
        self._no_overlay: str | None = None
        """Why this machine makes no overlays, "" if it does; None while nobody has asked."""

    def facts(self) -> LocalFacts:
        """Return the local facts for checks of granted folders. Blocking, some milliseconds."""
        return LocalFacts(home=Path.home(), states=all_state_folders(self._context.state.path))

    async def keep_fresh(self) -> None:
        """Refresh the index at start and every five minutes."""
        while True:
            try:
                await self._refresh()
            except DispatchError as error:
                log.warning("projects.not_indexed", code=error.code)
            await trio.sleep(REFRESH_SECONDS)

    async def suggestion(self, dispatch_id: str) -> Document:
        """Return {cwd, project, reason, pinned, granted, candidates, obstacles, toolchains, runs, runs_in} of one in
        the inbox.

        `runs` says what an accept without a folder of the person's choice does, as the accept itself says it. Of the
        folders that are offered, `obstacles`: folder → what will not work there; `toolchains`: folder → what a run sees
        there beside the system's own programs; `runs_in`: folder, or "" for an empty workspace → what an accept with it
        says.
        """
        document: Document = msgspec.to_builtins(await self._suggest(dispatch_id))
        offered = {row["cwd"] for row in (document, *document["candidates"]) if row["cwd"]}
        found = {cwd: await self._look(dispatch_id, cwd) for cwd in sorted(offered)}
        document["obstacles"] = {cwd: each.obstacles for cwd, each in found.items() if each.obstacles}
        document["toolchains"] = {cwd: each.toolchains for cwd, each in found.items() if each.toolchains}
        seen = {"": await self.toolchains(dispatch_id, None)} | {cwd: each.toolchains for cwd, each in found.items()}
        sender, scope = await self._sender_and_scope(dispatch_id)
        document["runs_in"] = {cwd: sentence(cwd, each, result_to=sender, scope=scope) for cwd, each in seen.items()}
        document["runs"] = document["runs_in"][document["cwd"] if document["pinned"] else ""]
        return document

    async def look(self, dispatch_id: str, cwd: str | None) -> Document:
        """Return {cwd, obstacles, toolchains, link, runs}: where an accept with this `cwd` would run, what will not
        work there, which toolchains a run sees there, and what the accept says of it.

        `cwd` of the result is the real folder, also of a path through links; `link` is the one that keeps an accept
        with the path as it is from being taken (`choose`), or null. Raises as `choose`, but not Conflict.
        """
        named, folder = await self._resolve(dispatch_id, cwd)
        if folder is None:
            found, link = _Looked([], await self.toolchains(dispatch_id, None)), None
        else:
            found, link = await self._look(dispatch_id, folder), await self._link_of_a_run(named)
        sender, scope = await self._sender_and_scope(dispatch_id)
        return {
            "cwd": folder,
            "obstacles": found.obstacles,
            "toolchains": found.toolchains,
            "link": link,
            "runs": sentence(folder, found.toolchains, result_to=sender, scope=scope),
        }

    async def _look(self, dispatch_id: str, folder: str) -> _Looked:
        scope = await self._scope(dispatch_id)
        git = await self._of_git(dispatch_id, folder) if "Bash" in scope.tools else []

        def look() -> _Looked:
            found = toolchains(scope, self._settings(), folder, all_state_folders(self._context.state.path))
            seen = [place for part in found.parts() for place in (part.at, part.path)]
            network = reach.sentences(scope, Path(folder), self._settings()) if "Bash" in scope.tools else []
            return _Looked([*network, *obstacles(Path(folder), seen), *found.not_seen], found.labels())

        looked = await trio.to_thread.run_sync(look)
        return looked._replace(obstacles=[*looked.obstacles, *git, *await self._left_out(scope, folder)])

    async def _left_out(self, scope: Scope, folder: str) -> list[str]:
        if WRITING_TOOLS.isdisjoint(scope.tools) or not platforms.can_confine():
            return []  # it is shown the folder itself
        async with self._asking:
            if self._no_overlay is None:
                self._no_overlay = await _no_overlay()
        look = partial(left_out, Path(folder), self._context.state.path, no_overlay=self._no_overlay)
        return await trio.to_thread.run_sync(look)

    async def _of_git(self, dispatch_id: str, folder: str) -> list[str]:
        """Return a sentence about the repository of a folder whose repository lies elsewhere."""
        pinned = await self._pinned(dispatch_id, folder)
        if pinned:
            fits, sentences = await trio.to_thread.run_sync(lambda: git_folders.fitting(pinned, self.facts()))
            return [*sentences, *(_SEES.format(path) for path in fits.values())]
        found, why = await trio.to_thread.run_sync(lambda: git_folders.find(folder, self.facts()))
        if found is not None and pinned is None:
            return [_SEES.format(found.path)]
        if found is not None:
            why = f"{found.path} was not granted with the folder; `dispatch trust edit` with the same --paths grants it"
        return [f"git will not work: the repository is elsewhere, and a run cannot see it: {why}"] if why else []

    async def git_folder(self, dispatch_id: str, folder: str) -> GitFolder | None:
        """Return what an accept grants beside `folder`: the repository of a worktree or submodule that lies elsewhere.

        None for one of the edge's folders, whose repository was granted with it, or was not.
        """
        if await self._pinned(dispatch_id, folder) is not None:
            return None
        found, _ = await trio.to_thread.run_sync(lambda: git_folders.find(folder, self.facts()))
        return found

    async def _pinned(self, dispatch_id: str, folder: str) -> dict[str, GitFolder] | None:
        """Return what the edge has pinned of a folder of its own; None where the folder is none of them."""

        def query(db: sqlite3.Connection) -> dict[str, GitFolder] | None:
            row = receiving.get_received(db, dispatch_id)
            if folder not in running.get_scope(db, row.edge_id)[0].paths:
                return None
            pins = running.get_git_folders(db, row)
            return {folder: pins[folder]} if folder in pins else {}

        return await self._context.store.read(query)

    async def choose(self, dispatch_id: str, cwd: str | None) -> str | None:
        """Return the folder a dispatch is to run in, or None for an empty workspace.

        `cwd` is the person's choice: a path, "" for an empty workspace, None for the one folder that the edge grants,
        or an empty workspace where it grants none or several.
        Raises Forbidden for a path outside the edge's folders, Invalid for one that may never be granted, Conflict for
        one that leads to another folder through a link that a run may have made: whoever decides must have seen the
        folder that it leads to. One in the person's home folder or above it is their own, as /home is on some systems,
        and is followed.
        """
        named, folder = await self._resolve(dispatch_id, cwd)
        if folder is not None and await self._link_of_a_run(named):
            raise Conflict(
                f"nothing runs yet: {named} leads to {folder} through a symbolic link",
                fix=f"to run it there, accept it with {folder} as its folder",
            )
        return folder

    async def _resolve(self, dispatch_id: str, cwd: str | None) -> tuple[str, str | None]:
        """Return the folder as it was named or suggested, and the real one; ("", None) for an empty workspace."""
        named = cwd or ""
        if cwd is None:
            suggested = await self._suggest(dispatch_id)
            named = str(suggested.cwd) if suggested.pinned else ""
        if not named:
            return "", None
        allowed = await self._allowed(dispatch_id)
        return named, await trio.to_thread.run_sync(lambda: paths.check_cwd(allowed, named, self.facts()))

    async def _link_of_a_run(self, named: str) -> str | None:
        """Return the first link on the way to a folder that a run may have made, or None."""
        return await trio.to_thread.run_sync(lambda: paths.foreign_link(named, self.facts()))

    async def toolchains(self, dispatch_id: str, folder: str | None) -> list[str]:
        """Return labels of the toolchains that a run sees in this real folder, or beside an empty workspace."""
        scope, states = await self._scope(dispatch_id), all_state_folders(self._context.state.path)
        found = await trio.to_thread.run_sync(lambda: toolchains(scope, self._settings(), folder, states))
        return found.labels()

    async def locked(self, scope: Scope, folder: str | None) -> lock_files.Locked:
        """Return what the lock files of a run name: in this real folder, or in the edge's beside an empty workspace.

        Nothing for a scope without a shell, which fetches nothing.
        """
        read = [Path(each) for each in ([folder] if folder else scope.paths)] if "Bash" in scope.tools else []
        return await trio.to_thread.run_sync(lock_files.read, read)

    async def _suggest(self, dispatch_id: str) -> Suggestion:
        allowed = await self._allowed(dispatch_id)
        there = await trio.to_thread.run_sync(lambda: [path for path in allowed if Path(path).is_dir()])
        return placed(await self._matched(dispatch_id, allowed), allowed, there=there)

    async def _matched(self, dispatch_id: str, allowed: tuple[str, ...]) -> Suggestion:
        if not self._settings().roots:
            return NOTHING
        try:
            index = await self._refresh()
            row = await self._context.store.read(lambda db: receiving.get_received(db, dispatch_id))
            content = receiving.dispatch_of(row).content
            return await trio.to_thread.run_sync(index.suggest, content.task, content.project, allowed)
        except DispatchError as error:
            log.warning("projects.no_suggestion", code=error.code)
            return NOTHING

    async def _allowed(self, dispatch_id: str) -> tuple[str, ...]:
        return (await self._scope(dispatch_id)).paths

    async def _scope(self, dispatch_id: str) -> Scope:
        return (await self._sender_and_scope(dispatch_id))[1]

    async def _sender_and_scope(self, dispatch_id: str) -> tuple[str, Scope]:
        def query(db: sqlite3.Connection) -> tuple[str, Scope]:
            row = receiving.get_received(db, dispatch_id)
            return row.peer, running.get_scope(db, row.edge_id)[0]

        return await self._context.store.read(query)

    async def _refresh(self) -> ProjectIndex:
        async with self._refreshing:
            index = self._index
            if index is None:
                index = self._index = await trio.to_thread.run_sync(
                    ProjectIndex, self._context.state.path / "projects.db"
                )
            roots = self._settings().roots
            at, indexed = self._fresh
            if roots != indexed or trio.current_time() - at > REFRESH_SECONDS / 2:
                await trio.to_thread.run_sync(
                    partial(index.refresh, roots, clock=time.monotonic, excluded=(str(self._context.state.path),))
                )
                self._fresh = (trio.current_time(), roots)
            return index


def sentence(folder: str | None, seen: Sequence[str], *, result_to: str, scope: Scope) -> str:
    """Return what a person is told of an accept: where it runs, what it sees there, and who gets the result.

    `folder`: "" or None for an empty workspace; `seen`: labels of toolchains.
    """
    held = scope.approval == "review"
    return placement.sentence(
        folder, seen, home=str(Path.home()), result_to=result_to, results=scope.results, held=held
    )


async def _no_overlay() -> str:
    """Why no run of this machine gets an overlay; "" where it does, or nothing could be learned."""
    answer = ""
    with trio.move_on_after(_ASKING_SECONDS), suppress(OSError):
        done = await trio.run_process(
            NAMESPACE, cwd=ROOT, env=AGENT_ENVIRONMENT, check=False, capture_stdout=True, stderr=DEVNULL
        )
        if done.returncode == 0:
            answer = done.stdout.decode(errors="replace").strip()
    return answer
