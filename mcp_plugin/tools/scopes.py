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

Tools = Annotated[_Names, Meta(description=f"of {', '.join(TOOLS)}; a list, or with commas between")]
McpServers = Annotated[
    _Names,
    Meta(description="names of MCP servers on this machine, a list or with commas between; `*` all, `none` none"),
]
Paths = Annotated[
    _Names,
    Meta(description="absolute folders, a list or with commas between; `none`: the one confirmed at each accept"),
]
Approval = Annotated[
    Literal["manual", "review", "auto"],
    Meta(
        description="manual (the default): each call is asked about; review: only those of MCP servers, and what a run "
        "returns is sent after the person has looked at it; auto: none is"
    ),
]
PerDay = Annotated[int, Meta(ge=1, le=1_000, description="dispatches a day, 50 unless said")]
Expires = Annotated[str, Meta(max_length=64, description="when the edge ends: 12h, 30d, a date, or never")]
Results = Annotated[
    Literal["full", "redacted"], Meta(description="whether the sender sees inputs and outputs of calls")
]
Apply = Annotated[
    Literal["review", "auto"],
    Meta(
        description="whether changes in the person's folders wait for them (review, the default) or those without a "
        "mark are put in place when a run has completed"
    ),
]
Toolchains = Annotated[
    _Names,
    Meta(
        description="what runs see beside the system's own programs, a list or with commas between: `auto` (those "
        "found here for the project), `none`, absolute paths that the person named; `default`: as their settings say"
    ),
]

Network = Annotated[
    _Names,
    Meta(
        description="what runs reach, a list or with commas between: hosts over HTTPS, HOST or HOST:PORT (whatever a "
        "run can read can leave to them); `packages` that lock files name, from this machine's registries; "
        "`any-packages`; `none`"
    ),
]


def given_scope(arguments: Arguments) -> dict[str, object]:
    """Return the scope's fields that were given."""
    values = {name: getattr(arguments, name) for name in SCOPE}
    return {name: value for name, value in values.items() if value is not None}
