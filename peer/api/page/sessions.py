"""Who may use the local page: one-time codes, and the sessions that they open. No HTTP here.

A session has two secrets, and neither opens anything without the other. The *cookie* is HttpOnly, so no script can read
it; but browsers send cookies to every port of a host (RFC 6265, section 8.5), also to a server of somebody else on
another port of 127.0.0.1. The *key* is kept by the page's script in its origin's storage, which no other port can read,
and goes in a header, which no other site can set. Only digests of both are kept here: in memory, and in a file of the
state folder so that a page goes on when the daemon comes back.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from peer.machine.state_folder import StateFolder, read_private
from peer.protocol.errors import DispatchError, Unauthorized

CODE_SECONDS: Final = 120
"""From `dispatch open` until the page has loaded: a browser that starts on a slow machine takes a while."""
MAX_CODES: Final = 8
SESSION_SECONDS: Final = 7 * 24 * 3600
MAX_SESSIONS: Final = 16
"""Browsers signed in at once; one more ends the oldest session."""
AGAIN: Final = "run `dispatch open` in a terminal: it opens this page signed in"


class Session(msgspec.Struct, frozen=True):
    """One browser's: SHA-256 (hex) of its cookie and of its key, and when it ends, in ms since the epoch."""

    cookie: str
    key: str
    expires: int


class Opened(NamedTuple):
    """The two secrets of a new session, given out once."""

    cookie: str
    key: str
    expires: int


class _File(msgspec.Struct, frozen=True):
    sessions: list[Session]


class Sessions:
    """Codes and sessions of one daemon. `clock` gives ms since the epoch; the folder is looked at when first needed."""

    def __init__(self, folder: Callable[[], StateFolder], clock: Callable[[], int]) -> None:
        self._folder = folder
        self._clock = clock
        self._codes: OrderedDict[str, int] = OrderedDict()
        self._sessions: OrderedDict[str, Session] | None = None

    def new_code(self) -> str:
        """Return a code that signs one browser in, once, within CODE_SECONDS. The oldest of too many stops working."""
        code = secrets.token_urlsafe(32)
        self._codes[_digest(code)] = self._clock() + CODE_SECONDS * 1000
        while len(self._codes) > MAX_CODES:
            self._codes.popitem(last=False)
        return code

    def sign_in(self, code: str) -> Opened:
        """Spend a code; return a new session's secrets. Raises Unauthorized for one that is spent, old or made up.

        Blocking: the session is on disk when this returns.
        """
        until = self._codes.pop(_digest(code), 0)
        if until < self._clock():
            raise Unauthorized("this sign-in code was used already, or is too old", fix=AGAIN)
        opened = Opened(secrets.token_urlsafe(32), secrets.token_urlsafe(32), self._clock() + SESSION_SECONDS * 1000)
        known = self._known()
        known[_digest(opened.cookie)] = Session(_digest(opened.cookie), _digest(opened.key), opened.expires)
        while len(known) > MAX_SESSIONS:
            known.popitem(last=False)
        self._save()
        return opened

    def find(self, cookie: str, key: str) -> Session | None:
        """Return the session that both secrets are of, while it lasts."""
        session = self._known().get(_digest(cookie))
        if session is None or not hmac.compare_digest(session.key, _digest(key)) or session.expires < self._clock():
            return None
        return session

    def holds(self, session: Session) -> bool:
        """Say whether a session that was found before still lasts."""
        return session.expires >= self._clock() and self._known().get(session.cookie) == session

    def end(self, session: Session) -> None:
        """Sign a browser out. Blocking."""
        if self._known().pop(session.cookie, None) is not None:
            self._save()

    def _known(self) -> OrderedDict[str, Session]:
        if self._sessions is None:
            self._sessions = OrderedDict()
            try:
                stored = msgspec.json.decode(read_private(self._folder().page_sessions, limit=64 * 1024), type=_File)
            except (DispatchError, msgspec.MsgspecError):
                # None yet, or not to be trusted: whoever was signed in does so again.
                stored = _File([])
            now = self._clock()
            for session in stored.sessions[-MAX_SESSIONS:]:
                # A date further off than any session lasts was written under another clock.
                if now <= session.expires <= now + SESSION_SECONDS * 1000:
                    self._sessions[session.cookie] = session
        return self._sessions

    def _save(self) -> None:
        folder = self._folder()
        folder.write_private(folder.page_sessions, msgspec.json.encode(_File(list(self._known().values()))))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
