"""The page's static documents: one HTML shell, and the style and scripts it names. No data, no secrets.

Assets are read once and served under a path that changes with their content, so that browsers may cache them forever.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final

import jinja2
from starlette.requests import Request
from starlette.responses import Response

from peer import VERSION
from peer.api.responses import failure
from peer.protocol.errors import NotFound

TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Media types of the assets by suffix. All are UTF-8."""
VIEWS: Final = (
    "/",
    "/inbox",
    "/approvals",
    "/sent",
    "/contacts",
    "/contacts/{peer}",
    "/invitations",
    "/compose",
    "/history",
    "/health",
    "/settings",
    "/setup",
    "/dispatches/{id}",
)
"""Paths that serve the shell; its script chooses the view by the path."""


MISSING: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Not found · dispatch</title>
<h1>Page not found</h1>
<p>The address is mistyped, or is that of another version. <a href="/inbox">Go to the inbox</a></p>
</html>
"""


def missing(request: Request) -> Response | None:
    """Return what a person reads at a wrong address of the page; None for another caller, and below /v1."""
    wanted = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")
    return Response(MISSING, status_code=404, media_type="text/html") if wanted else None


class Shell:
    """Renders the shell and serves its assets. The constructor reads files, blocking."""

    def __init__(self) -> None:
        package = resources.files("peer.api.page")
        self._assets: dict[str, bytes] = {
            entry.name: entry.read_bytes()
            for entry in package.joinpath("static").iterdir()
            if "." + entry.name.rpartition(".")[2] in TYPES
        }
        content = b"".join(name.encode() + self._assets[name] for name in sorted(self._assets))
        build = hashlib.sha256(content).hexdigest()[:16]
        self._build = build
        templates = package.joinpath("templates")
        environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(lambda name: templates.joinpath(name).read_text("utf-8")),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        modules = sorted(name for name in self._assets if name.endswith(".js"))
        # style.css has what the others build on.
        sheets = sorted(
            (name for name in self._assets if name.endswith(".css")), key=lambda name: (name != "style.css", name)
        )
        self._page = environment.get_template("page.html").render(
            build=build, version=VERSION, modules=modules, sheets=sheets
        )

    async def page(self, _request: Request) -> Response:
        """Return the shell, the same for every view."""
        return Response(self._page, media_type="text/html")

    async def asset(self, request: Request) -> Response:
        """Return a style or script of this build."""
        name: str = request.path_params["name"]
        content = self._assets.get(name)
        if content is None or request.path_params["build"] != self._build:
            return failure(NotFound("there is no such part of the page", fix="load the page again"))
        kind = TYPES["." + name.rpartition(".")[2]]
        # Other content has another path.
        headers = {"cache-control": "private, max-age=31536000, immutable"}
        return Response(content, media_type=f"{kind}; charset=utf-8", headers=headers)
