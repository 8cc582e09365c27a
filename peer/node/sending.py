"""Sending, behind the API's routes: check a request, copy its files into the blobs, then sign and queue in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import trio

from peer.client.requests import SendRequest
from peer.dispatches import payload
from peer.protocol.content import MAX_FILE_BYTES, FileRef
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, Invalid
from peer.steps import sending
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import blobs, contacts, lists
from peer.store.blobs import StagedFile
from peer.trust import fingerprints

TAKEN_IN_AT_ONCE = 8
"""Files, of all sends together: one is copied and hashed while the disk has not finished with another."""


class SendService:
    """Sends dispatches."""

    def __init__(self, journal: Journal, connected: Callable[[str], bool]) -> None:
        """`connected`: whether a device is connected now."""
        self._journal = journal
        self._context = journal.context
        self._connected = connected
        self._taking_in = trio.CapacityLimiter(TAKEN_IN_AT_ONCE)

    async def send(self, request: SendRequest) -> Document:
        """Sign and queue a dispatch: {dispatch_id, status, expires_at, peer_online, left_out?, unverified?}.

        `left_out` names the fields that the recipient's device does not understand and that were not sent. `unverified`
        is the fingerprint of the recipient's key, if nothing but the broker and the mail vouches for it.
        """
        recipient = await self._context.store.read(lambda db: contacts.user_named(db, request.recipient))
        payload.check_content(request)
        paths = [Path(path) for path in request.files]
        # Names and count, before any file is read. Sizes are checked below; 1 byte stands in for them here.
        payload.check_files(tuple(payload.FileFact(path.name, 1) for path in paths))
        context = self._context
        if paths:
            # Fail before reading files if no edge permits the dispatch.
            me = context.identity.user_id
            await context.store.read(lambda db: sending.get_edge_to(db, me, recipient, context.clock()))
        for path in paths:
            if not path.is_absolute():
                raise Invalid(f"{path} is not an absolute path", fix="give the file's full path")
        taken: dict[int, StagedFile] = {}
        try:
            await self._take_in(paths, taken)
            files = [taken[number] for number in range(len(paths))]
            payload.check_files(files)
            content = request.to_content(tuple(FileRef(item.name, item.size, item.digest) for item in files))
            draft = sending.Draft(recipient, content, request.expires, device=request.device)

            def compose(tx: Transaction) -> sending.Composed:
                composed = sending.compose(tx, draft)
                blobs.keep(files)
                return composed

            composed = await self._journal.step(compose)
        finally:
            for item in taken.values():
                item.discard()
        row = composed.row
        document: Document = {
            "dispatch_id": row.dispatch_id,
            "status": row.state,
            "expires_at": lists.rfc3339(row.expires),
            "peer_online": self._connected(row.device),
        }
        if composed.left_out:
            document["left_out"] = list(composed.left_out)
        contact = await context.store.read(lambda db: contacts.get(db, row.peer))
        if contact is not None and not contact.verified:
            document["unverified"] = str(fingerprints.fingerprint(contact.root))
        return document

    async def _take_in(self, paths: Sequence[Path], taken: dict[int, StagedFile]) -> None:
        """Copy the files into the blobs, some at a time; each is in `taken` by its number, also after an error.

        Raises what the first of them raised that could not be taken in.
        """
        failed: dict[int, DispatchError] = {}
        left = iter(enumerate(paths))

        async def take() -> None:
            for number, path in left:
                if failed:
                    return
                copy = partial(self._context.blobs.take_in, path, path.name, limit=MAX_FILE_BYTES)
                try:
                    taken[number] = await trio.to_thread.run_sync(copy, limiter=self._taking_in)
                except DispatchError as error:
                    failed[number] = error

        async with trio.open_nursery() as nursery:
            for _ in range(min(TAKEN_IN_AT_ONCE, len(paths))):
                nursery.start_soon(take)
        if failed:
            raise failed[min(failed)]
