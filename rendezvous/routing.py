"""Which route a request is for: by method and path, in a time that does not grow with the number of routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from peer.protocol.errors import DispatchError, NotFound

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path, in which a segment `{name}` stands for any one; and what answers each method."""

    template: str
    endpoints: Mapping[str, Endpoint]


class MethodNotAllowed(DispatchError):
    """The path takes other methods: those in `allow`."""

    def __init__(self, allow: tuple[str, ...]) -> None:
        super().__init__(f"this address only takes {', '.join(allow)}", code=405, fix="check the broker's address")
        self.allow = allow


class Routes:
    """A table of routes. HEAD is answered as GET; no path with a slash at its end is another one's."""

    def __init__(self, routes: Mapping[str, Mapping[str, Endpoint]]) -> None:
        """`routes`: by template, what answers each method."""
        self._exact: dict[str, Route] = {}
        self._by_length: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        for template, endpoints in routes.items():
            more = {"HEAD": endpoints["GET"]} if "GET" in endpoints else {}
            route = Route(template, {**endpoints, **more})
            if "{" in template:
                segments = tuple(template.split("/"))
                self._by_length.setdefault(len(segments), []).append((segments, route))
            else:
                self._exact[template] = route

    def find(self, path: str) -> tuple[Route, dict[str, str]]:
        """Return the route of a path, percent-decoded, and what stands in it for each name. Raises NotFound."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact, {}
        given = path.split("/")
        for segments, route in self._by_length.get(len(given), ()):
            names = {}
            for wanted, found in zip(segments, given, strict=True):
                if wanted[:1] == "{" and found:
                    names[wanted[1:-1]] = found
                elif wanted != found:
                    break
            else:
                return route, names
        raise NotFound(f"there is nothing at {path[:100]}", fix="check the broker's address")


def endpoint_of(route: Route, method: str) -> Endpoint:
    """Return what answers a method there. Raises MethodNotAllowed."""
    endpoint = route.endpoints.get(method)
    if endpoint is None:
        raise MethodNotAllowed(tuple(sorted(route.endpoints)))
    return endpoint
