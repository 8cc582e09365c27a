"""Elsewhere: the host can ask nobody, so the call ends with what waits and where the person answers it."""

from __future__ import annotations

from mcp_plugin.call import Call
from mcp_plugin.surfaces.picker import described
from peer.client.blocking import Document

TELL = (
    "show the person `question`, then `answer_at`, word for word; they answer there and not here. Then go on with "
    'dispatch_act(action="watch", dispatch_id="{}")'
)


async def gate(call: Call, row: Document) -> Document | None:
    """Return the gate as the call's result, with the commands that answer it."""
    identity, request_id = row["dispatch_id"], row["request_id"]
    return {
        "status": "approval_needed",
        "next": TELL.format(identity),
        "answer_at": answer_at(identity, request_id),
        **described(row),
    }


def answer_at(dispatch_id: str, request_id: str) -> Document:
    """Return where a person answers a call: {terminal: [commands], page: command}."""
    return {
        "terminal": [f"dispatch {word} {dispatch_id} {request_id}" for word in ("approve", "deny")],
        "page": "dispatch open",
    }
