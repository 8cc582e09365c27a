"""Who may call the loopback port: programs of this user, by token; the local page, by session; nobody else's page.

The token proves a process of this user. The headers Host, Origin, Referer and Sec-Fetch-Site keep the pages of others
(also through DNS rebinding) from using a browser as one. A page's session needs both of its secrets, and its own Origin
for whatever changes something. Bodies are bounded. What each route does with a caller is not said here.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peer.api.page.policy import guarding
from peer.api.page.sessions import AGAIN, Session, Sessions
from peer.api.responses import failure
from peer.protocol.content import MAX_FILE_BYTES
from peer.protocol.errors import DispatchError, Forbidden, Invalid, TooLarge, Unauthorized

MAX_BODY: Final = 2 * 1024 * 1024
"""Bytes: the largest is a dispatch whose task and background are of four-byte characters in JSON's \\u form."""
UPLOADS: Final = "/v1/page/uploads"
LOOPBACK_HOST: Final = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
KEY_HEADER: Final = b"x-dispatch-page"
DECIDING: Final = frozenset(
    {
        b"host",
        b"origin",
        b"referer",
        b"sec-fetch-site",
        b"sec-fetch-mode",
        b"sec-fetch-dest",
        b"authorization",
        b"cookie",
        KEY_HEADER,
    }
)
"""Headers on which it is decided who may call: each at most once, or one of two would decide and the other be seen."""
READING: Final = ("GET", "HEAD")
SIGN_IN: Final = "/v1/page/sign-in"
API: Final = "/v1/"
CALLER: Final = "caller"
"""Where a request's caller is, in its scope: a Session, or None for a program that has the token."""

Headers = dict[bytes, bytes]


def cookie_name(host: str) -> str:
    """Return the name of a page's cookie at this Host: with its port, for cookies are shared by all ports."""
    return f"dispatch-page-{host.rpartition(':')[2] if ':' in host.rpartition(']')[2] else '80'}"


class Guard:
    """Lets through what may pass, and bounds what it sends."""

    def __init__(self, app: ASGIApp, token: str, sessions: Callable[[], Sessions]) -> None:
        self._app = app
        self._token = token.encode()
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = guarding(send)
        try:
            if scope["http_version"] not in ("1.0", "1.1"):
                raise Forbidden("only HTTP/1.1 is spoken here", fix="")
            scope[CALLER] = self._check(scope["method"], scope["path"], single(scope["headers"]))
        except DispatchError as error:
            await failure(error)(scope, receive, send)
            return
        most = MAX_FILE_BYTES if scope["path"] == UPLOADS else MAX_BODY
        left = most

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLarge(f"a request body has at most {most} bytes")
            return message

        await self._app(scope, bounded, send)

    def _check(self, method: str, path: str, headers: Headers) -> Session | None:
        """Return the page session that calls, None for a program or where nothing secret is given out. Raises."""
        host = headers.get(b"host", b"").decode("latin-1")
        if not LOOPBACK_HOST.fullmatch(host):
            raise Forbidden("the Host is not this machine's loopback address", fix="call it as 127.0.0.1")
        own = f"http://{host}"
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") != own:
            raise Forbidden("a page of another origin may not call this", fix="")
        referer = headers.get(b"referer", b"").decode("latin-1")
        if referer and referer != own and not referer.startswith(own + "/"):
            raise Forbidden("a page of another origin may not call this", fix="")
        api = path.startswith(API)
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin") and (
            api or method not in READING or not _opens_a_page(headers)
        ):
            raise Forbidden("a page of another site may not call this", fix="")
        if not api:
            if method not in READING:
                raise Forbidden("the page is only read", fix="")
            return None
        given = headers.get(b"authorization")
        if given is not None:
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                raise _no_token()
            return None
        if path == SIGN_IN:
            if origin is None:
                raise Forbidden("only the page itself signs in", fix=AGAIN)
            return None
        return self._session(method, host, headers)

    def _session(self, method: str, host: str, headers: Headers) -> Session:
        key = headers.get(KEY_HEADER, b"").decode("latin-1")
        if not key:
            raise _no_token()
        cookie = _cookie(headers.get(b"cookie", b"").decode("latin-1"), cookie_name(host))
        session = self._sessions().find(cookie, key) if cookie else None
        if session is None:
            raise Unauthorized("this page is not signed in, or no longer", fix=AGAIN)
        if method not in READING and b"origin" not in headers:
            raise Forbidden("what changes something must come from the page itself", fix="")
        return session


def single(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the deciding headers by lower-case name. Raises Invalid when one of them comes twice."""
    found: Headers = {}
    for name, value in headers:
        if (low := name.lower()) in DECIDING:
            if low in found:
                raise Invalid(f"the header {low.decode()} comes twice", fix="")
            found[low] = value
    return found


def _opens_a_page(headers: Headers) -> bool:
    # A link or redirect from elsewhere (`dispatch open` comes from a file) opens the page as a document of its own. The
    # page holds no data until its script has asked for it, and that request is of this site.
    return headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"


def _cookie(header: str, name: str) -> str:
    # By hand, not by one parse of the whole header: what other servers of this host set must not break ours.
    values = [part.strip().partition("=")[2] for part in header.split(";") if part.strip().startswith(name + "=")]
    return values[0] if len(values) == 1 else ""


def _no_token() -> Unauthorized:
    return Unauthorized(
        "the local token is missing or not this daemon's", fix="it is in local.token in the state folder"
    )
