"""The table of routes against Starlette's router, which finds the same by trying each in turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.routing import Route as StarletteRoute

from peer.protocol.errors import NotFound
from rendezvous.routing import MethodNotAllowed, Routes, endpoint_of

TABLE = {
    "/": ("GET",),
    "/a": ("GET", "POST"),
    "/a/b": ("PUT",),
    "/a/{x}": ("DELETE",),
    "/a/{x}/b": ("GET",),
    "/{x}/{y}/c": ("POST",),
}


async def answer(_request: Request) -> Response:
    return Response()


OURS = Routes({template: dict.fromkeys(methods, answer) for template, methods in TABLE.items()})
THEIRS = [StarletteRoute(template, answer, methods=list(methods)) for template, methods in TABLE.items()]

SEGMENTS = st.sampled_from(["", "a", "b", "c", "é", "{x}", "x y", "%2F"])
PATHS = st.builds(lambda segments: "/" + "/".join(segments), st.lists(SEGMENTS, max_size=4))


def found_by_starlette(path: str, method: str) -> object:
    for route in THEIRS:  # of a path that several fit, the first
        match, more = route.matches({"type": "http", "path": path, "method": method, "root_path": ""})
        if match is Match.FULL:
            return route.path, more["path_params"]
        if match is Match.PARTIAL:
            return "not allowed"
    return None


def found_here(path: str, method: str) -> object:
    try:
        route, names = OURS.find(path)
        endpoint_of(route, method)
    except NotFound:
        return None
    except MethodNotAllowed as refused:
        assert set(TABLE[route.template]) <= set(refused.allow)
        return "not allowed"
    return route.template, names


@given(PATHS, st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]))
def test_what_is_found_is_what_starlette_finds(path: str, method: str) -> None:
    assert found_here(path, method) == found_by_starlette(path, method)


@pytest.mark.parametrize("path", ["", "a", "/a/", "//a", "/a//b", "/a/b/", "*", "/nothing"])
def test_what_is_no_route_is_not_found(path: str) -> None:
    with pytest.raises(NotFound, match="there is nothing at"):
        OURS.find(path)
