"""The fields of a scope as arguments of tools. Their meaning and their checks are the node's: peer.trust.grants."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mcp_plugin.arguments import Arguments
from peer.trust.scopes import TOOLS

SCOPE = ("tools", "mcp_servers", "paths", "approval", "max_per_day", "expires", "results")

Many = Annotated[
    str | list[str],
    Meta(
        description=f"names, as a list or comma-separated. tools: of {', '.join(TOOLS)}; "
        "mcp_servers: *, none or names; paths: absolute folders or none"
    ),
]
Approval = Annotated[
    Literal["manual", "auto"], Meta(description="whether each call is asked about (manual, the default) or none is")
]
PerDay = Annotated[int, Meta(ge=1, le=1_000, description="dispatches a day, 50 unless said")]
Expires = Annotated[str, Meta(max_length=64, description="when the edge ends: 12h, 30d, a date, or never")]
Results = Annotated[
    Literal["full", "redacted"], Meta(description="whether the sender sees inputs and outputs of calls")
]


def given_scope(arguments: Arguments) -> dict[str, object]:
    """Return the scope's fields that were given."""
    values = {name: getattr(arguments, name) for name in SCOPE}
    return {name: value for name, value in values.items() if value is not None}
