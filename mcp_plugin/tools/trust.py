"""`dispatch_trust`: the edges that were granted: looked at, changed, ended."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from mcp_plugin.arguments import Arguments, refuse_others, require
from mcp_plugin.call import Call
from mcp_plugin.consent import confirm, scope_flags, scope_lines
from mcp_plugin.texts import safe
from mcp_plugin.tools.scopes import SCOPE, Approval, Expires, Many, PerDay, Results, given_scope
from peer.dispatches.text import line

Document = dict[str, Any]


class Trust(Arguments, frozen=True, kw_only=True):
    action: Annotated[
        Literal["list", "edit", "revoke"],
        Meta(description="edit without further fields returns the current scope; an omitted field keeps its value"),
    ]
    peer: (
        Annotated[str, Meta(max_length=320, description="the contact's e-mail address, or my alias for them")] | None
    ) = None
    tools: Many | None = None
    mcp_servers: Many | None = None
    paths: Many | None = None
    approval: Approval | None = None
    max_per_day: PerDay | None = None
    expires: Expires | None = None
    results: Results | None = None


TAKES = {"list": ("peer",), "edit": ("peer", *SCOPE), "revoke": ("peer",)}


async def trust(call: Call, arguments: Trust) -> Document:
    """List, edit or revoke."""
    action = arguments.action
    refuse_others(arguments, f"action={action}", "action", *TAKES[action])
    if action != "list":
        require(arguments, f"action={action}", "peer")
    client = await call.client()
    peer = arguments.peer
    match action:
        case "list":
            rows = (await client.contacts())["trust"]
            return {"trust": safe([row for row in rows if peer is None or peer in (row["peer"], row.get("alias"))])}
        case "edit":
            return await _edit(call, str(peer), given_scope(arguments))
        case "revoke":
            return dict(safe(await client.revoke_trust(str(peer))))


async def _edit(call: Call, peer: str, changes: Document) -> Document:
    """Narrow at once; ask the person before anything is wider."""
    client = await call.client()
    if not changes:
        return dict(safe(await client.trust(peer)))
    answer = await client.edit_trust(peer, changes, unconfirmed=True)
    if answer.get("status") != "confirmation_required":
        return dict(safe(answer))
    exact = changes | {name: answer["scopes"][name] for name in ("tools", "mcp_servers", "paths") if name in changes}
    user = line(str(answer["peer"]))
    wider = ", ".join(line(str(way), limit=200) for way in answer["widens"])
    command = ["dispatch", "trust", "edit", peer, *scope_flags(exact)]
    await confirm(
        call,
        "\n".join([f"{user} would be permitted more than now: {wider}. In all:", *scope_lines(answer)]),
        yes="Yes: change the edge to exactly this",
        command=command if answer["verified"] or not answer["powerful"] else [*command, "--yes-unverified"],
        what="widening a trust edge",
    )
    return dict(safe(await client.edit_trust(peer, exact, confirm_unverified=True)))
