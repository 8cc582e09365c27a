"""The loopback API of a machine that has not signed in yet: the page with its set-up, and nothing else.

The node's own API takes its place, on the same port, once there is an identity (peer/programs/setting_up.py).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Final

import trio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from peer.api.page.guard import Guard
from peer.api.page.session_routes import SessionRoutes
from peer.api.page.setup_routes import SetupRoutes
from peer.api.page.shell import VIEWS, Shell, missing
from peer.api.page.sign_in_flow import SignInFlow
from peer.api.page.stream import KEEPALIVE_SECONDS, MAX_STREAMS
from peer.api.responses import LiveView, Reply, as_json, document, failure, sse
from peer.machine import settings as settings_file
from peer.machine.settings import Settings
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import DispatchError, NotFound, NotSignedIn

FIX: Final = "run `dispatch setup`, or set up in the browser with `dispatch open`"


class BeforeSignIn:
    """What the set-up state serves. `looked` is set whenever the identity may have come into being."""

    def __init__(self, folder: StateFolder) -> None:
        """Raises Invalid for a malformed config.json."""
        self._folder = folder
        self.port = 0
        """The port that it is served on; 0 until it listens."""
        self.current = settings_file.resolve(folder)
        self.looked = trio.Event()
        self._changed = trio.Event()
        self.flow = SignInFlow(lambda: folder, self._notify)
        self._streams = trio.CapacityLimiter(MAX_STREAMS)
        self._sessions = SessionRoutes(lambda: folder, lambda: lambda: time.time_ns() // 1_000_000, lambda: self.port)
        self._setup = SetupRoutes(lambda: folder, self._settings, self._reload, self.flow)
        self._shell = Shell()

    def application(self, token: str) -> ASGIApp:
        """Return the ASGI application. `token`: the secret of local programs."""
        app = Starlette(
            routes=[
                *(Route(path, self._shell.page) for path in VIEWS),
                Route("/page/{build}/{name}", self._shell.asset),
                *self._sessions.table(),
                *self._setup.table(),
                Route("/v1/page/session", as_json(self._session)),
                Route("/v1/page/stream", self._stream),
                Route("/v1/reload", as_json(self._reloaded), methods=["POST"]),
                Route("/v1/{rest:path}", _refuse, methods=["GET", "POST", "PATCH", "DELETE"]),
            ],
            # Whichever sign-in a program means, there is none yet: it is told so, not that it means another.
            middleware=[
                Middleware(Guard, token=token, sessions=lambda: self._sessions.sessions, sign_ins=lambda: None)
            ],
            exception_handlers={404: _no_route, 405: _no_route},
        )
        app.router.redirect_slashes = False
        return app

    def _settings(self) -> Settings:
        return self.current

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _reload(self) -> None:
        self.current = await trio.to_thread.run_sync(settings_file.resolve, self._folder)
        self._notify()

    async def _reloaded(self, _request: Request) -> Reply:
        """Read config.json again, as `dispatch login` asks for; the answer is on its way before the node takes over."""
        await self._reload()

        async def look() -> None:
            self.looked.set()

        response = document({"ok": True})
        response.background = BackgroundTask(look)
        return response

    async def _session(self, _request: Request) -> Reply:
        return {
            "user_id": "",
            "device_name": "",
            "has_identity": False,
            "notifications": self.current.notifications,
            "limits": {},
            "texts": [],
            "expires": 0,
        }

    async def _stream(self, request: Request) -> Response:
        """Return a live stream of `setup` events; it ends when the node takes over."""
        try:
            self._streams.acquire_on_behalf_of_nowait(request)
        except trio.WouldBlock:
            return failure(DispatchError("too many live views at once", fix="close some tabs", code=429))
        return LiveView(self._events(lambda: self._changed), lambda: self._streams.release_on_behalf_of(request))

    async def _events(self, changed: Callable[[], trio.Event]) -> AsyncIterator[bytes]:
        while True:
            wakeup = changed()
            yield sse("setup", "setup-0-0", {})
            with trio.move_on_after(KEEPALIVE_SECONDS):
                await wakeup.wait()


async def _refuse(_request: Request) -> Response:
    return failure(NotSignedIn("this machine has not signed in yet", fix=FIX))


async def _no_route(request: Request, _error: Exception) -> Response:
    return missing(request) or failure(NotFound("the daemon has no such route", fix="reload the page"))
