"""The fields of a scope as arguments of tools. Their meaning and their checks are the node's: peer.trust.grants."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mcp_plugin.arguments import Arguments
from peer.trust.scopes import TOOLS

_Name = Annotated[str, Meta(max_length=4_096)]
SCOPE = (
    *("tools", "mcp_servers", "paths", "approval", "max_per_day", "expires", "results", "apply"),
    *("toolchains", "network"),
)

_Names = Annotated[str, Meta(max_length=20_000)] | Annotated[list[_Name], Meta(max_length=200)]
"""A list, or the same with commas between."""

Tools = Annotated[_Names, Meta(description=f"of {', '.join(TOOLS)}, separated by commas")]
McpServers = Annotated[
    _Names,
    Meta(description="names; `*` for all, or `none`"),
]
Paths = Annotated[
    _Names,
    Meta(description="absolute folders; `none`: only the one chosen at each accept"),
]
Approval = Annotated[
    Literal["manual", "review", "auto"],
    Meta(
        description=(
            "what the person is asked about. manual (default): each call; review: MCP calls, and results before they "
            "are sent; auto: nothing"
        )
    ),
]
PerDay = Annotated[int, Meta(ge=1, le=1_000, description="default: 50")]
Expires = Annotated[str, Meta(max_length=64, description="12h, 30d, a date, or never")]
Results = Annotated[Literal["full", "redacted"], Meta(description="redacted: without inputs and outputs of calls")]
Apply = Annotated[
    Literal["review", "auto"],
    Meta(description="review (default): changes in the person's folders wait for them; auto: only marked ones wait"),
]
Toolchains = Annotated[
    _Names,
    Meta(description="programs that runs can use: `auto` (found for the project), `none`, absolute paths, `default`"),
]

Network = Annotated[
    _Names,
    Meta(
        description=(
            "what runs can reach: HTTPS hosts, HOST[:PORT] (a run can send them what it reads); `packages` that lock "
            "files name; `any-packages`; `none`"
        )
    ),
]


def given_scope(arguments: Arguments) -> dict[str, object]:
    """Return the scope's fields that were given."""
    values = {name: getattr(arguments, name) for name in SCOPE}
    return {name: value for name, value in values.items() if value is not None}
