"""What the docs list is what there is: commands, options, settings, and the routes of the loopback API."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from cli import reference
from mcp_plugin import reference as mcp_reference
from peer.api.routes import application
from peer.node.node import Node

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_of_commands_is_what_the_commands_say() -> None:
    assert (DOCS / "commands.md").read_text("utf-8") == reference.render(), "python -m cli.reference > docs/commands.md"


def test_the_reference_of_the_mcp_tools_is_what_the_tools_say() -> None:
    """Seen to fail with a description changed."""
    assert (DOCS / "mcp.md").read_text("utf-8") == mcp_reference.render(), (
        "python -m mcp_plugin.reference > docs/mcp.md"
    )


def routes() -> list[tuple[str, str]]:
    app = cast(Starlette, application(cast(Node, _Nobody()), "token"))
    found = [(method, route.path) for route in app.routes if isinstance(route, Route) for method in route.methods or ()]
    return sorted((method, path) for method, path in found if method != "HEAD")


class _Nobody:
    """A node that nothing is asked of: only the table of routes is looked at."""

    def __getattr__(self, name: str) -> Any:
        return None


@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_is_documented(method: str, path: str) -> None:
    text = (DOCS / "protocol.md").read_text("utf-8").partition("## Programs to the daemon")[2]
    assert f"`{method} {path}`" in text
