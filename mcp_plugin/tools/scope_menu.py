"""The menu of scopes as one form: what an inviter may do here, how calls are approved, and in which folders.

The form is the person's own word, so what they chose in it is granted without another question; but power for a key
that nobody has compared, and what the menu did not name, are asked about once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mcp_plugin.call import Call, FormField
from mcp_plugin.consent import refused
from peer.client.blocking import Document
from peer.dispatches.text import line
from peer.protocol.errors import Invalid
from peer.trust import menu as scopes_menu

DECLINED: Final[Mapping[str, object]] = {"declined": True}
_SHOWN: Final = 1_100
"""Characters of one line of the menu, which names every MCP server."""


async def ask(call: Call, menu: Document) -> Mapping[str, object] | None:
    """Return the scope that the person chose, DECLINED, or None where nobody was asked.

    `menu`: the API's scope_choice_required. Raises Forbidden for a form that was refused, Invalid for a custom choice
    without tools.
    """
    if not call.can_ask or call.modern:  # there a call has one form, and this may take two
        return None
    rows = menu["menu"]
    options = [
        (str(row["number"]), f"{row['number']}. {line(row['title'], limit=_SHOWN)}: {line(row['explains'])}")
        for row in rows
    ]
    fields = {
        "approval": FormField(
            "Approval of calls", "manual", [(name, f"{name}: {about}") for name, about in scopes_menu.APPROVALS.items()]
        ),
        "folders": FormField(
            "Folders: absolute paths, separated by commas. Empty: only the one that you confirm at each accept"
        ),
        "tools": FormField("For Custom: the tools, separated by commas"),
    }
    answer = await call.ask(_message(menu), options, fields=fields)
    if answer.kind == "declined":
        raise refused("accepting an invitation")
    if answer.kind != "chosen":
        return None
    number = int(answer.value)
    if number == scopes_menu.DECLINE:
        return DECLINED
    row = next(row for row in rows if row["number"] == number)
    tools = ",".join(row["tools"]) or answer.more["tools"]
    if not tools:
        raise Invalid("Custom needs a list of tools", fix="ask the person which tools, then accept with `tools`")
    # By name, as they were shown: `*` may stand for more by the time that this is granted.
    servers = list(row["mcp_servers"]) or "none"
    paths = answer.more["folders"] or "none"
    return {"tools": tools, "mcp_servers": servers, "approval": answer.more["approval"], "paths": paths}


def asks_once_more(asked: Document) -> bool:
    """Whether a chosen scope needs a further word. `asked`: the API's confirmation_required."""
    return bool((asked["powerful"] and not asked["verified"]) or len(asked["widens"]) > 1 or asked.get("by_proxy"))


def _message(menu: Document) -> str:
    lines = [
        line(menu["heading"], limit=400),
        line(menu["standing"], limit=400),
        f"Fingerprint: {line(menu['fingerprint'])}",
        f"With folders: {scopes_menu.FOLDERS}.",
    ]
    return "\n".join(lines)
