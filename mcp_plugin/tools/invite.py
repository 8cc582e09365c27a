"""`dispatch_invite`: sending, listing and answering invitations. What is granted is always a person's choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from mcp_plugin.arguments import Arguments, refuse_others, require
from mcp_plugin.call import Call
from mcp_plugin.consent import confirm, scope_flags, scope_lines, with_key
from mcp_plugin.results import safe
from mcp_plugin.tools import scope_menu
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
from peer.dispatches.text import line
from peer.trust.invitation_address import SCHEME


class Invite(Arguments, frozen=True, kw_only=True):
    action: Literal["send", "list", "accept", "decline"]
    to_email: Annotated[str, Meta(max_length=320, description="send: whom to ask")] | None = None
    token: Annotated[str, Meta(max_length=2_000, description="or `dispatch:` address")] | None = None
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


TAKES = {"send": ("to_email",), "list": (), "accept": ("token", *SCOPE), "decline": ("token",)}
CHOOSE = "show the person this menu with the picker and pass on what they choose; never choose for them"
ELSEWHERE = (
    "show the person this menu; they answer it in a terminal and not here: `dispatch accept-invitation {0}` to "
    "choose, `dispatch decline-invitation {0}` to decline"
)


async def invite(call: Call, arguments: Invite) -> Document:
    """Ask, list, accept or decline."""
    action = arguments.action
    refuse_others(arguments, f"action={action}", "action", *TAKES[action])
    if action != "list":
        require(arguments, f"action={action}", "to_email" if action == "send" else "token")
    client = await call.client()
    match action:
        case "send":
            return safe(await client.invite(str(arguments.to_email)))
        case "list":
            return safe(await client.invitations())
        case "decline":
            return safe(await client.decline_invitation(str(arguments.token)))
        case "accept":
            return await _accept(call, str(arguments.token), given_scope(arguments))


def _named(token: str) -> str:
    """An address holds the invitation's secret, and other users of this machine can read a command line."""
    return "-" if token.startswith(SCHEME) else token


async def _accept(call: Call, token: str, scope: Mapping[str, object]) -> Document:
    client = await call.client()
    chosen = False
    if "tools" not in scope:
        menu = await client.accept_invitation(token, {})
        choice = await scope_menu.ask(call, menu)
        if choice is None:
            return {**safe(menu), "next": CHOOSE if call.session.hooked else ELSEWHERE.format(_named(token))}
        if choice == scope_menu.DECLINED:
            return safe(await client.decline_invitation(token))
        scope, chosen = {**scope, **choice}, True
    asked = await client.accept_invitation(token, scope, unconfirmed=True)
    # By name, as the person reads it: `*` may cover more servers by the time they answer.
    exact = {**scope, **{name: asked["scopes"][name] for name in ("tools", "mcp_servers", "paths")}}
    shown: dict[str, object] = {}
    if "network" in scope:
        exact["network"] = asked["scopes"]["network"]
        shown["registries"] = asked["scopes"]["registries"]
    if "toolchains" in scope:
        exact["toolchains"] = asked["scopes"]["toolchains"] or ["default"]
    if chosen and not scope_menu.asks_once_more(asked):
        return safe(
            await client.accept_invitation(
                token, {**exact, **shown}, confirm_unverified=True, confirm_by_proxy=asked.get("by_proxy") or []
            )
        )
    peer = line(str(asked["peer"]))
    command = ["dispatch", "accept-invitation", _named(token), *scope_flags(exact)]
    await confirm(
        call,
        "\n".join(
            [
                f"{peer} would be able to dispatch tasks to this machine:",
                *scope_lines(asked),
                line(str(asked["standing"])),
            ]
        ),
        yes="Yes: grant exactly this",
        command=command,
        what=with_key("accepting an invitation", asked),
    )
    return safe(
        await client.accept_invitation(
            token, {**exact, **shown}, confirm_unverified=True, confirm_by_proxy=asked.get("by_proxy") or []
        )
    )
