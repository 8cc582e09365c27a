"""`dispatch_trust`: listing, changing and ending the trust edges that this person granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from mcp_plugin.arguments import Arguments, refuse_others, require
from mcp_plugin.call import Call
from mcp_plugin.consent import PHRASE, confirm, scope_flags, scope_lines, with_key
from mcp_plugin.results import safe
from mcp_plugin.tools import candidates
from mcp_plugin.tools.scopes import (
    SCOPE,
    Apply,
    Approval,
    Expires,
    McpServers,
    Network,
    Paths,
    PerDay,
    Results,
    Toolchains,
    Tools,
    given_scope,
)
from peer.client.blocking import Document
from peer.client.on_trio import AsyncClient
from peer.dispatches.text import line
from peer.protocol.errors import NotFound


class Trust(Arguments, frozen=True, kw_only=True):
    action: Literal["list", "edit", "revoke"]
    peer: Annotated[str, Meta(max_length=320, description="e-mail address, or my alias for them")] | None = None
    tools: Tools | None = None
    mcp_servers: McpServers | None = None
    paths: Paths | None = None
    approval: Approval | None = None
    max_per_day: PerDay | None = None
    expires: Expires | None = None
    results: Results | None = None
    apply: Apply | None = None
    toolchains: Toolchains | None = None
    network: Network | None = None


TAKES = {"list": ("peer",), "edit": ("peer", *SCOPE), "revoke": ("peer",)}


async def trust(call: Call, arguments: Trust) -> Document:
    """List, edit or revoke."""
    action = arguments.action
    refuse_others(arguments, f"action={action}", "action", *TAKES[action])
    if action != "list":
        require(arguments, f"action={action}", "peer")
    client = await call.client()
    try:
        return await _done(call, client, arguments)
    except NotFound as error:
        raise await candidates.unknown(client, str(arguments.peer), error, direction="incoming") from None


async def _done(call: Call, client: AsyncClient, arguments: Trust) -> Document:
    action, peer = arguments.action, arguments.peer
    match action:
        case "list":
            rows = (await client.contacts())["trust"]
            wanted = [row for row in rows if peer is None or peer in (row["peer"], row.get("alias"))]
            if peer is not None and not wanted:
                raise NotFound(f"no contact is called {line(peer, limit=80)!r}", fix="see `dispatch contacts`")
            return safe({"trust": wanted})
        case "edit":
            return await _edit(call, str(peer), given_scope(arguments))
        case "revoke":
            return safe(await client.revoke_trust(str(peer)))


async def _edit(call: Call, peer: str, changes: Mapping[str, object]) -> Document:
    """Change an edge: at once where it becomes narrower, with the person's consent where anything becomes wider.

    In a session with hooks these let every edit pass, since it ends in the form here: there a narrower one is asked
    about, too.
    """
    client = await call.client()
    if not changes:
        return safe(await client.trust(peer))
    answer = await client.edit_trust(peer, changes, unconfirmed=True, preview=call.session.hooked)
    if answer.get("status") != "confirmation_required":
        return safe(answer)
    exact = {
        **changes,
        **{name: answer["scopes"][name] for name in ("tools", "mcp_servers", "paths") if name in changes},
    }
    shown: dict[str, object] = {}
    if "network" in changes:
        exact["network"] = answer["scopes"]["network"]
        shown["registries"] = answer["scopes"]["registries"]
    if "toolchains" in changes:
        exact["toolchains"] = answer["scopes"]["toolchains"] or ["default"]
    user = line(str(answer["peer"]))
    wider = ", ".join(line(str(way), limit=PHRASE) for way in answer["widens"])
    command = ["dispatch", "trust", "edit", peer, *scope_flags(exact)]
    heading = f"{user} would be permitted more than now: {wider}. In total:" if wider else f"{user} would be permitted:"
    await confirm(
        call,
        "\n".join([heading, *scope_lines(answer)]),
        yes="Yes: change the edge to exactly this",
        command=command,
        what=with_key("widening a trust edge" if wider else "changing a trust edge", answer),
    )
    return safe(
        await client.edit_trust(
            peer, {**exact, **shown}, confirm_unverified=True, confirm_by_proxy=answer.get("by_proxy") or []
        )
    )
