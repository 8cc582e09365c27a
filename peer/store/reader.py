"""Read-only access to the store for programs while no daemon runs. It returns the documents of the API.

Nothing is migrated here: a store of another version is refused. Each method imports only what its document needs,
because the lists, the most frequent commands, need little.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from peer.machine.state_folder import StateFolder, read_private
from peer.protocol.documents import Direction, Document
from peer.protocol.errors import DispatchError
from peer.store import connection, lists

if TYPE_CHECKING:
    from peer.store.views import Live

T = TypeVar("T")

_PLAIN_ADDRESS = re.compile(r"[a-z0-9._%+-]+@[a-z0-9.-]+")


class Reader:
    """The store of one state folder, read while no daemon has it open."""

    def __init__(self, folder: StateFolder, me: str, *, broker: str | None = None, token: str | None = None) -> None:
        """`broker` and `token` of flags count before the saved ones."""
        self._folder = folder
        self._me = me
        self._broker = broker
        self._token = token

    def whoami(self) -> Document:
        """Return what `GET /v1/whoami` returns, as far as it is available without a daemon."""
        from peer.machine import identity, settings
        from peer.store import trust_views
        from peer.trust import fingerprints

        who, chosen = (
            identity.load(self._folder),
            settings.resolve(self._folder, broker=self._broker, token=self._token),
        )
        return {
            "user_id": who.user_id,
            "device_id": who.device,
            "device_name": who.name,
            "fingerprint": str(fingerprints.fingerprint(who.root)),
            "root_stored": who.root_stored,
            "broker": chosen.broker or None,
            "broker_signed_in": bool(chosen.broker and chosen.token),
            "brokers": trust_views.broker_documents(chosen, who.user_id, self._waiting()),
            "daemon": {"running": False},
            "runtime": {"name": chosen.runtime},
            "sandbox": {"tier": None, "reason": "it is proven by the daemon, or by `dispatch doctor`"},
        }

    def _waiting(self) -> dict[str, int]:
        """Return how many writes wait for each broker; nothing of a store that cannot be read."""
        from peer.store import invitations

        try:
            return self._read(invitations.waiting_at)
        except DispatchError:
            return {}

    def contacts(self, *, limit: int | None = None, before: str | None = None) -> Document:
        """Return what `GET /v1/contacts` returns, with everybody offline."""
        from peer.store import trust_views

        return self._read(lambda db: trust_views.trust_rows(db, self._live(), limit=limit, before=before))

    def invitations(self, *, ended: bool = False, limit: int | None = None, before: str | None = None) -> Document:
        """Return what `GET /v1/invitations` returns, without links."""
        from peer.store import trust_views

        return self._read(
            lambda db: trust_views.invitation_rows(db, _now(), lambda _row: "", ended=ended, limit=limit, before=before)
        )

    def approvals(self) -> list[Document]:
        """Return no tool calls: they wait in a running node alone."""
        return []

    def dispatches(
        self, direction: Direction, *, status: str | None = None, limit: int | None = None, before: str | None = None
    ) -> Document:
        """Return what `GET /v1/dispatches` returns."""
        return self._read(
            lambda db: lists.dispatch_list(
                db,
                self._me,
                _now(),
                direction=direction,
                status=status,
                limit=50 if limit is None else limit,
                before=before,
            )
        )

    def dispatch(self, dispatch_id: str) -> Document:
        """Return what `GET /v1/dispatches/{id}` returns, without a suggestion."""
        from peer.store import views

        return self._read(lambda db: views.dispatch_document(db, self._me, _now(), dispatch_id))

    def _live(self) -> Live:
        from peer.store import views

        return views.Live(me=self._me, now=(now := _now()), steady=now)

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        with _opened(self._folder) as db:
            return query(db)


@contextmanager
def open_reader(folder: StateFolder, *, broker: str | None = None, token: str | None = None) -> Iterator[Reader]:
    """Open the reader of a state folder. Where no daemon has ever run, it finds nothing."""
    yield Reader(folder, _owner(folder), broker=broker, token=token)


def _owner(folder: StateFolder) -> str:
    """Return the user who signed in on this machine, "" for nobody. Raises as settings.load for a bad config.json."""
    # Importing the settings takes as long as everything else that a list needs, so a plain address is used as it is.
    try:
        document = json.loads(read_private(folder.config))
    except (DispatchError, ValueError, RecursionError):
        document = None
    email = document.get("email") if isinstance(document, dict) else None
    if isinstance(email, str) and _PLAIN_ADDRESS.fullmatch(email):
        return email
    from peer.machine import settings

    return settings.load(folder).email


@contextmanager
def _opened(folder: StateFolder) -> Iterator[sqlite3.Connection]:
    db = connection.connect(folder.store, read_only=True) if folder.store.exists() else connection.empty()
    try:
        yield db
    except sqlite3.Error as error:
        raise connection.as_error(error) from error
    finally:
        db.close()


def _now() -> int:
    return time.time_ns() // 1_000_000
