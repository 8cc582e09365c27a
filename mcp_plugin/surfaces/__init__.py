"""How a person is asked about a tool call: by the host's own picker, or by a form of this server's."""

from __future__ import annotations

from mcp_plugin.call import Call
from mcp_plugin.surfaces import form, picker
from mcp_plugin.watching import Surface
from peer.machine import settings


def surface(call: Call) -> Surface:
    """Return the surface in force. The newer protocol makes a call anew for each answer, so it has the picker only."""
    if not call.modern and call.can_ask and settings.approval_ui(call.session.folder) == "form":
        return form.gate
    return picker.gate
