"""Keeps the list of one's own and one's contacts' devices in the state folder, for a relay that the person may run.

The relay is a program of its own that reads this one file (rendezvous/relay/contacts.py) and may do nothing else here.
A list that cannot be brought up to date is removed: then the relay admits nobody by it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import structlog
import trio

from peer.machine.state_folder import FOLDER_MODE, read_private
from peer.protocol.errors import DispatchError, Unavailable
from peer.protocol.relays.contacts import MAX_BYTES, encode, secret_of
from peer.steps.context import Context
from peer.store import contacts

log = structlog.get_logger(__name__)

AGAIN_SECONDS: Final = 60.0
"""After the list could not be written."""


class RelayContacts:
    """The file `relay/contacts.json` of a state folder."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._news = trio.Event()
        self.problem: DispatchError | None = None
        """Why there is no list, if so."""

    def changed(self) -> None:
        """Contacts, their devices or blocks have changed."""
        self._news.set()

    async def run(self) -> None:
        """Keep the list as the contacts in the store are, those from before the start first, until cancelled."""
        while True:
            # Replaced before the store is read, so that no change is missed.
            self._news = trio.Event()
            problem = await self._keep()
            if problem is not None and self.problem is None:
                log.warning("relay_contacts.not_kept", code=problem.code)
            self.problem = problem
            with trio.move_on_after(float("inf") if problem is None else AGAIN_SECONDS):
                await self._news.wait()

    async def _keep(self) -> DispatchError | None:
        identity = self._context.identity
        try:
            known = await self._context.store.read(contacts.devices)
            theirs = [(device.user_id, device.device) for device in known]
            listed = encode([(identity.user_id, identity.device), *theirs], secret=secret_of(identity.seed))
            await trio.to_thread.run_sync(self._write, listed)
        except DispatchError as error:
            await trio.to_thread.run_sync(self._remove)
            return error
        return None

    def _write(self, listed: bytes) -> None:
        state = self._context.state
        with suppress(DispatchError, OSError):
            if read_private(state.relay_contacts, limit=MAX_BYTES) == listed:
                return
        try:
            state.relay_contacts.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"can't make {state.relay_contacts.parent}: {error.strerror}", fix="remove what is in its place"
            ) from error
        state.write_private(state.relay_contacts, listed)

    def _remove(self) -> None:
        with suppress(OSError):
            self._context.state.relay_contacts.unlink()
