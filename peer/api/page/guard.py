"""Who may call the loopback port: programs of this user, by token, and the local page, by session.

Only processes of this user can read the token. The checks of Host, Origin, Referer and Sec-Fetch-Site keep other sites'
pages from calling through the browser, also by DNS rebinding. A page's session needs both of its secrets, and its own
Origin for whatever changes something. Bodies are bounded.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peer.api.page.policy import guarding
from peer.api.page.sessions import SIGN_IN_FIX, Session, Sessions
from peer.api.responses import failure
from peer.client.blocking import BROKER_HEADER, DIGEST_HEADER, SignIn
from peer.protocol.content import MAX_FILE_BYTES
from peer.protocol.errors import NO_FIX, Conflict, DispatchError, Forbidden, Invalid, TooLarge, Unauthorized

MAX_BODY: Final = 2 * 1024 * 1024
"""Bytes. The largest body is a dispatch whose task and background are four-byte characters in JSON's \\u form."""
UPLOADS: Final = "/v1/page/uploads"
LOOPBACK_HOST: Final = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
KEY_HEADER: Final = b"x-dispatch-page"
BROKER: Final = BROKER_HEADER.lower().encode()
TOKEN_DIGEST: Final = DIGEST_HEADER.lower().encode()
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
        BROKER,
        TOKEN_DIGEST,
    }
)
"""Headers that decide who may call. Each may occur only once, so that every reader sees the same value."""
SIGNED_OUT: Final = "x-dispatch-signed-out"
"""Header by which a page knows a 401 that means its own session from one that means the sign-in at a broker."""
READING: Final = ("GET", "HEAD")
SIGN_IN: Final = "/v1/page/sign-in"
API: Final = "/v1/"
CALLER: Final = "caller"
"""Key of the caller in a request's ASGI scope: a Session, or None for a program with the token."""

Headers = dict[bytes, bytes]


def cookie_name(host: str) -> str:
    """Return the page's cookie name for this Host. It contains the port, because all ports share cookies."""
    return f"dispatch-page-{host.rpartition(':')[2] if ':' in host.rpartition(']')[2] else '80'}"


class Guard:
    """ASGI middleware that refuses callers without access and bounds request bodies."""

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        sessions: Callable[[], Sessions],
        sign_ins: Callable[[], Sequence[SignIn] | None],
    ) -> None:
        """`sign_ins`: this node's own, in force now, one for each broker; None before there is a node."""
        self._app = app
        self._token = token.encode()
        self._sessions = sessions
        self._sign_ins = sign_ins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = guarding(send)
        try:
            if scope["http_version"] not in ("1.0", "1.1"):
                raise Forbidden("only HTTP/1.1 is supported", fix=NO_FIX)
            scope[CALLER] = self._check(scope["method"], scope["path"], single(scope["headers"]))
        except DispatchError as error:
            refused = failure(error)
            if isinstance(error, Unauthorized):
                refused.headers[SIGNED_OUT] = "1"
            await refused(scope, receive, send)
            return
        most = MAX_FILE_BYTES if scope["path"] == UPLOADS else MAX_BODY
        left = most

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise TooLarge(f"a request body has at most {most} bytes", fix="send less at once")
            return message

        await self._app(scope, bounded, send)

    def _check(self, method: str, path: str, headers: Headers) -> Session | None:
        """Return the calling page's session; None for a program, or for a route without secrets.

        Raises Forbidden, Unauthorized.
        """
        host = headers.get(b"host", b"").decode("latin-1")
        if not LOOPBACK_HOST.fullmatch(host):
            raise Forbidden("the Host is not this machine's loopback address", fix="call it as 127.0.0.1")
        own = f"http://{host}"
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") != own:
            raise Forbidden("a page of another origin may not call this", fix=NO_FIX)
        referer = headers.get(b"referer", b"").decode("latin-1")
        if referer and referer != own and not referer.startswith(own + "/"):
            raise Forbidden("a page of another origin may not call this", fix=NO_FIX)
        api = path.startswith(API)
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin") and (
            api or method not in READING or not _opens_a_page(headers)
        ):
            raise Forbidden("a page of another site may not call this", fix=NO_FIX)
        if not api:
            if method not in READING:
                raise Forbidden("the page is read-only", fix=NO_FIX)
            return None
        given = headers.get(b"authorization")
        if given is not None:
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                raise _no_token()
            self._check_sign_in(headers)
            return None
        if path == SIGN_IN:
            if origin is None:
                raise Forbidden("only the page itself signs in", fix=SIGN_IN_FIX)
            return None
        return self._session(method, host, headers)

    def _check_sign_in(self, headers: Headers) -> None:
        """Raise Conflict if the request is meant for another sign-in than one of this node's."""
        if (own := self._sign_ins()) is None:
            return
        ours = [{name.lower().encode(): value.encode() for name, value in each.headers().items()} for each in own]
        broker = headers.get(BROKER)
        if broker is not None:
            ours = [each for each in ours if each.get(BROKER) == broker]
            if not ours:
                asked = unquote(broker.decode("latin-1"))
                raise Conflict(
                    f"the running daemon is signed in at {', '.join(each.broker for each in own) or 'no broker'}, "
                    f"not at {asked}",
                    fix=f"leave --broker and $DISPATCH_BROKER out, or sign in there: `dispatch broker add {asked}`",
                )
        digest = headers.get(TOKEN_DIGEST)
        if digest is not None and not any(hmac.compare_digest(digest, each.get(TOKEN_DIGEST, b"")) for each in ours):
            raise Conflict(
                "the running daemon is signed in with another token",
                fix="leave --token and $DISPATCH_TOKEN out, or `dispatch config set token -` and restart the daemon",
            )

    def _session(self, method: str, host: str, headers: Headers) -> Session:
        key = headers.get(KEY_HEADER, b"").decode("latin-1")
        if not key:
            raise _no_token()
        cookie = _cookie(headers.get(b"cookie", b"").decode("latin-1"), cookie_name(host))
        session = self._sessions().find(cookie, key) if cookie else None
        if session is None:
            raise Unauthorized("this page is not signed in, or no longer", fix=SIGN_IN_FIX)
        if method not in READING and b"origin" not in headers:
            raise Forbidden("a change must come from the page itself", fix=NO_FIX)
        return session


def single(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the DECIDING headers by lower-case name. Raises Invalid if one occurs twice."""
    found: Headers = {}
    for name, value in headers:
        if (low := name.lower()) in DECIDING:
            if low in found:
                raise Invalid(f"the header {low.decode()} occurs twice", fix=NO_FIX)
            found[low] = value
    return found


def _opens_a_page(headers: Headers) -> bool:
    # A link or redirect from elsewhere (`dispatch open` uses a local file) opens the page as a top-level document. The
    # page holds no data until its own script requests it, and those requests are same-origin.
    return headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"


def _cookie(header: str, name: str) -> str:
    # Parsed by hand: a malformed cookie of another server on this host must not break ours.
    values = [part.strip().partition("=")[2] for part in header.split(";") if part.strip().startswith(name + "=")]
    return values[0] if len(values) == 1 else ""


def _no_token() -> Unauthorized:
    return Unauthorized(
        "the local token is missing or not this daemon's", fix="it is in local.token in the state folder"
    )
