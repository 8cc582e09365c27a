"""What is read for a person, as the API's routes call it: lists, one dispatch, the calls that wait. Changes nothing."""

from __future__ import annotations

from collections.abc import Callable

from peer.protocol.documents import Direction, Document
from peer.runs.folders import RunFolders
from peer.steps.context import Context
from peer.store import lists, views


class QueryService:
    """Reads the store, with what is true only now."""

    def __init__(self, context: Context, folders: RunFolders, path: Callable[[str], str | None]) -> None:
        """`path`: how a device is connected now, None where it is not."""
        self._context = context
        self._folders = folders
        self._path = path

    def live(self) -> views.Live:
        """Return what is true only now."""
        return views.Live(me=self._context.identity.user_id, now=self._context.clock(), path=self._path)

    async def dispatches(self, *, direction: Direction, status: str | None, limit: int, before: str | None) -> Document:
        """Return a page of the inbox or of what was sent."""
        live = self.live()
        return await self._context.store.read(
            lambda db: lists.dispatch_list(
                db, live.me, live.now, direction=direction, status=status, limit=limit, before=before
            )
        )

    async def dispatch(self, dispatch_id: str, *, with_trace: bool = True) -> Document:
        """Return one dispatch whole; a pending one with the suggestion of where it would run. Raises NotFound."""
        live = self.live()
        document = await self._context.store.read(
            lambda db: views.dispatch_document(db, live.me, live.now, dispatch_id, with_trace=with_trace)
        )
        if document["direction"] == "received" and document["status"] == "pending":
            document["suggestion"] = await self._folders.suggestion(dispatch_id)
        return document

    async def approvals(self) -> list[Document]:
        """Return the tool calls that wait for a person."""
        return await self._context.store.read(lambda db: views.approval_list(db, self._context.clock()))
