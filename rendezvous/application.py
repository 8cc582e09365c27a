"""What holds for every request, whatever its route: errors as problem details, security headers, and its time."""

from __future__ import annotations

import time
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from peer.protocol.errors import DispatchError
from rendezvous import web
from rendezvous.routing import Routes, endpoint_of

UNMATCHED: Final = "unmatched"
"""The route, in metrics, of requests that were refused before one was found."""
_ROUTE: Final = "dispatch.route"
"""Of a request's ASGI scope: the template of its route."""


class Application:
    """An ASGI application of some routes."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def admit(self, request: Request) -> None:
        """Raise a DispatchError for a request that is not to be answered."""

    def answered(self, method: str, route: str, *, status: int, seconds: float) -> None:
        """Note an answer, and what it took beside the time for which the request had asked to wait."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, began, status = Request(scope, receive), time.perf_counter(), 0
        try:
            response = await self._response(request)
            status = response.status_code
            web.secure(response)
            await response(scope, receive, send)
        except ClientDisconnect:
            pass  # it waited, and has left: nobody reads an answer
        finally:
            if status:
                seconds = time.perf_counter() - began - web.waited(scope)
                self.answered(request.method, scope.get(_ROUTE, UNMATCHED), status=status, seconds=seconds)

    async def _response(self, request: Request) -> Response:
        try:
            self.admit(request)
            route, request.scope["path_params"] = self._routes.find(request.scope["path"])
            request.scope[_ROUTE] = route.template
            return await endpoint_of(route, request.method)(request)
        except DispatchError as error:
            return web.problem(error)
        except HTTPException as error:  # of Starlette's forms
            return web.problem(DispatchError(error.detail, code=error.status_code, fix="reload the page and try again"))
        except ClientDisconnect:
            raise
        except Exception as error:
            return web.unexpected(error)
