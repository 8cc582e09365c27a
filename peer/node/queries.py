"""Queries behind the API's routes: lists, one dispatch, waiting tool calls. Changes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable

from peer.mesh.host import PathNow
from peer.protocol.documents import Direction, Document
from peer.runs.folders import RunFolders
from peer.steps import releasing
from peer.steps.context import Context
from peer.store import lists, rows, unreleased, views


class QueryService:
    """Reads the store and adds live facts: the time, connections, suggested folders."""

    def __init__(
        self,
        context: Context,
        folders: RunFolders,
        path: Callable[[str], PathNow | None],
        settled: Callable[[str], Awaitable[None]],
    ) -> None:
        """`path`: how a device is connected now, None if it is not.

        `settled` waits until no landing of a dispatch is under way.
        """
        self._context = context
        self._folders = folders
        self._path = path
        self._settled = settled

    def live(self) -> views.Live:
        """Return the facts that are not in the store, for peer.store.views."""
        context = self._context
        now = context.clock()

        def path(device: str) -> views.ConnectionPath | None:
            if (found := self._path(device)) is None:
                return None
            return views.ConnectionPath(found.kind, found.since, max(1, round(found.round_trip * 1000)))

        return views.Live(me=context.identity.user_id, now=now, steady=context.steady(), path=path)

    async def dispatches(self, *, direction: Direction, status: str | None, limit: int, before: str | None) -> Document:
        """Return a page of received or of sent dispatches."""
        live = self.live()
        return await self._context.store.read(
            lambda db: lists.dispatch_list(
                db, live.me, live.now, direction=direction, status=status, limit=limit, before=before
            )
        )

    async def dispatch(self, dispatch_id: str, *, with_trace: bool = True) -> Document:
        """Return one dispatch; a pending one with the suggested folder for its run. Raises NotFound."""
        live = self.live()
        await self._settled(dispatch_id)
        document = await self._context.store.read(
            lambda db: views.dispatch_document(
                db, live.me, live.now, dispatch_id, steady=live.steady, with_trace=with_trace
            )
        )
        if document["direction"] == "received" and document["status"] == "pending":
            document["suggestion"] = await self._folders.suggestion(dispatch_id)
        return document

    async def held(self, dispatch_id: str, *, after: int, limit: int) -> Document:
        """Return {dispatch_id, events, more, next}: of a held result, the events as they would be sent.

        `after` is the `next` of the page before, 0 for the first. Raises NotFound, Conflict.
        """

        def query(db: sqlite3.Connection) -> tuple[rows.Dispatch, list[tuple[int, str]]]:
            row, _ = releasing.get_held(db, dispatch_id)
            return row, unreleased.events(db, dispatch_id, after=after, limit=limit + 1)

        row, found = await self._context.store.read(query)
        more = len(found) > limit
        return {
            "dispatch_id": dispatch_id,
            "events": [views.event_document(number, row.attempt, text) for number, text in found[:limit]],
            "more": more,
            "next": found[limit - 1][0] if more else None,
        }

    async def folder(self, dispatch_id: str, cwd: str | None) -> Document:
        """Return {cwd, obstacles, toolchains, link, runs} for an accept with this `cwd`; see RunFolders.look."""
        return await self._folders.look(dispatch_id, cwd)

    async def approvals(self, *, limit: int, before: str | None = None) -> Document:
        """Return a page of the tool calls that wait for a person's answer: {approvals, more, next}. Raises NotFound."""
        steady = self._context.steady()
        return await self._context.store.read(lambda db: views.approval_list(db, steady, limit=limit, before=before))
