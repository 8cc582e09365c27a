"""Access to the local page: one-time codes, and the sessions that they open. No HTTP.

A session has two secrets, and each is useless without the other. The *cookie* is HttpOnly, so no script can read it.
But browsers send cookies to every port of a host (RFC 6265, section 8.5), also to another user's server on another port
of 127.0.0.1. The *key* is in the storage of the page's origin, which no other port can read, and is sent in a header,
which no other site can set. Only digests of both are kept here: in memory, and in a file of the state folder, so that
sessions survive a restart of the daemon.
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
"""From `dispatch open` until the page has loaded; includes the start of a browser on a slow machine."""
MAX_CODES: Final = 8
SESSION_SECONDS: Final = 7 * 24 * 3600
MAX_SESSIONS: Final = 16
"""Sessions at once; one more ends the oldest."""
SIGN_IN_FIX: Final = "run `dispatch open` in a terminal: it opens this page signed in"


class Session(msgspec.Struct, frozen=True):
    """One browser's session: SHA-256 (hex) of its cookie and key, and its end in ms since the epoch."""

    cookie: str
    key: str
    expires: int


class Opened(NamedTuple):
    """The two secrets of a new session, returned once."""

    cookie: str
    key: str
    expires: int


class _File(msgspec.Struct, frozen=True):
    sessions: list[Session]


class Sessions:
    """Codes and sessions of one daemon. `clock` returns ms since the epoch; `folder` is used lazily."""

    def __init__(self, folder: Callable[[], StateFolder], clock: Callable[[], int]) -> None:
        self._folder = folder
        self._clock = clock
        self._codes: OrderedDict[str, int] = OrderedDict()
        self._sessions: OrderedDict[str, Session] | None = None

    def new_code(self) -> str:
        """Return a code that signs in one browser, once, within CODE_SECONDS. Beyond MAX_CODES, the oldest ends."""
        code = secrets.token_urlsafe(32)
        self._codes[_digest(code)] = self._clock() + CODE_SECONDS * 1000
        while len(self._codes) > MAX_CODES:
            self._codes.popitem(last=False)
        return code

    def sign_in(self, code: str) -> Opened:
        """Consume a code; return a new session's secrets. Raises Unauthorized for a used, expired or unknown code.

        Blocking: the session is on disk when this returns.
        """
        until = self._codes.pop(_digest(code), 0)
        if until < self._clock():
            raise Unauthorized("this sign-in code was used already, or is too old", fix=SIGN_IN_FIX)
        opened = Opened(secrets.token_urlsafe(32), secrets.token_urlsafe(32), self._clock() + SESSION_SECONDS * 1000)
        known = self._known()
        known[_digest(opened.cookie)] = Session(_digest(opened.cookie), _digest(opened.key), opened.expires)
        while len(known) > MAX_SESSIONS:
            known.popitem(last=False)
        self._save()
        return opened

    def find(self, cookie: str, key: str) -> Session | None:
        """Return the live session with both of these secrets, or None."""
        session = self._known().get(_digest(cookie))
        if session is None or not hmac.compare_digest(session.key, _digest(key)) or session.expires < self._clock():
            return None
        return session

    def holds(self, session: Session) -> bool:
        """Return whether a session found earlier is still live."""
        return session.expires >= self._clock() and self._known().get(session.cookie) == session

    def end(self, session: Session) -> None:
        """End a session. Blocking."""
        if self._known().pop(session.cookie, None) is not None:
            self._save()

    def _known(self) -> OrderedDict[str, Session]:
        if self._sessions is None:
            self._sessions = OrderedDict()
            try:
                stored = msgspec.json.decode(read_private(self._folder().page_sessions, limit=64 * 1024), type=_File)
            except (DispatchError, msgspec.MsgspecError):
                # Missing, or not readable by us alone: everybody signs in again.
                stored = _File([])
            now = self._clock()
            for session in stored.sessions[-MAX_SESSIONS:]:
                # An end later than any new session's was written while the clock was ahead.
                if now <= session.expires <= now + SESSION_SECONDS * 1000:
                    self._sessions[session.cookie] = session
        return self._sessions

    def _save(self) -> None:
        folder = self._folder()
        folder.write_private(folder.page_sessions, msgspec.json.encode(_File(list(self._known().values()))))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
