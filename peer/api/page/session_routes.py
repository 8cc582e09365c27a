"""The page's own sign-in by a one-time code, and its end: the same before and after this machine has an identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
import trio
from starlette.requests import Request
from starlette.routing import Route

from peer.api.page.guard import CALLER, SIGN_IN, cookie_name
from peer.api.page.sessions import CODE_SECONDS, SESSION_SECONDS, Session, Sessions
from peer.api.responses import Body, Reply, as_json, body_of, document
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import NO_FIX, Forbidden, Invalid


class CodeBody(Body):
    code: Annotated[str, msgspec.Meta(max_length=200)]


class SessionRoutes:
    """One method per route. The arguments are read when they are needed."""

    def __init__(
        self, folder: Callable[[], StateFolder], clock: Callable[[], Callable[[], int]], port: Callable[[], int]
    ) -> None:
        """`clock()` gives the clock, which returns ms since the epoch."""
        self._folder = folder
        self._clock = clock
        self._port = port
        self._sessions: Sessions | None = None

    @property
    def sessions(self) -> Sessions:
        """The page's sessions."""
        if self._sessions is None:
            self._sessions = Sessions(self._folder, self._clock())
        return self._sessions

    def table(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/page/codes", as_json(self.code), methods=["POST"]),
            Route(SIGN_IN, as_json(self.sign_in), methods=["POST"]),
            Route("/v1/page/session", as_json(self.sign_out), methods=["DELETE"]),
        ]

    async def code(self, request: Request) -> Reply:
        """Return a one-time code. For programs only: a page must not be able to open another session."""
        if request.scope[CALLER] is not None:
            raise Forbidden("only a program with the local token may ask for a sign-in code", fix="run `dispatch open`")
        return {"code": self.sessions.new_code(), "port": self._port(), "expires_in": CODE_SECONDS}

    async def sign_in(self, request: Request) -> Reply:
        """Consume a code; return the new session's cookie in a header and its key in the body."""
        body = await body_of(request, CodeBody)
        opened = await trio.to_thread.run_sync(self.sessions.sign_in, body.code)
        response = document({"key": opened.key})
        response.set_cookie(
            cookie_name(request.headers["host"]),
            opened.cookie,
            max_age=SESSION_SECONDS,
            path="/v1/",
            httponly=True,
            samesite="strict",
        )
        return response

    async def sign_out(self, request: Request) -> Reply:
        """End the caller's session."""
        session = request.scope[CALLER]
        if not isinstance(session, Session):
            raise Invalid("only a page has a session to end", fix=NO_FIX)
        await trio.to_thread.run_sync(self.sessions.end, session)
        answer = document({"ok": True})
        answer.delete_cookie(cookie_name(request.headers["host"]), path="/v1/", httponly=True, samesite="strict")
        return answer
