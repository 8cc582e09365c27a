"""`dispatch_invite`: asking for trust, and answering who asks. A person always chooses what is granted."""

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


class Invite(Arguments, frozen=True, kw_only=True):
    action: Annotated[
        Literal["send", "list", "accept", "decline"],
        Meta(description="send asks somebody to let me dispatch to them; accept lets them dispatch to this machine"),
    ]
    to_email: Annotated[str, Meta(max_length=320, description="send: whom to ask")] | None = None
    token: (
        Annotated[str, Meta(max_length=2_000, description="accept, decline: the invitation's token or link")] | None
    ) = None
    tools: Many | None = None
    mcp_servers: Many | None = None
    paths: Many | None = None
    approval: Approval | None = None
    max_per_day: PerDay | None = None
    expires: Expires | None = None
    results: Results | None = None


TAKES = {"send": ("to_email",), "list": (), "accept": ("token", *SCOPE), "decline": ("token",)}
CHOOSE = "show the person this menu and pass on what they choose; never choose for them"


async def invite(call: Call, arguments: Invite) -> Document:
    """Ask, list, accept or decline."""
    action = arguments.action
    refuse_others(arguments, f"action={action}", "action", *TAKES[action])
    if action != "list":
        require(arguments, f"action={action}", "to_email" if action == "send" else "token")
    client = await call.client()
    match action:
        case "send":
            return dict(safe(await client.invite(str(arguments.to_email))))
        case "list":
            return dict(safe(await client.invitations()))
        case "decline":
            return dict(safe(await client.decline_invitation(str(arguments.token))))
        case "accept":
            return await _accept(call, str(arguments.token), given_scope(arguments))


async def _accept(call: Call, token: str, scope: Document) -> Document:
    client = await call.client()
    if "tools" not in scope:
        return {**safe(await client.accept_invitation(token, {})), "next": CHOOSE}
    asked = await client.accept_invitation(token, scope, unconfirmed=True)
    # What the person agrees to, by name: `*` may mean more by the time they have read it.
    exact = scope | {name: asked["scopes"][name] for name in ("tools", "mcp_servers", "paths")}
    peer = line(str(asked["peer"]))
    command = ["dispatch", "accept-invitation", token, *scope_flags(exact)]
    await confirm(
        call,
        "\n".join([f"{peer} would be able to dispatch tasks to this machine:", *scope_lines(asked)]),
        yes="Yes: grant exactly this",
        command=command if asked["verified"] else [*command, "--yes-unverified"],
        what="accepting an invitation",
    )
    return dict(safe(await client.accept_invitation(token, exact, confirm_unverified=True)))
