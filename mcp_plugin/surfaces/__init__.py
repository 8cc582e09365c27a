"""How a person is asked about a tool call of a run: by the host's own picker, or by a form of this server."""

from __future__ import annotations

from mcp_plugin.call import Call
from mcp_plugin.surfaces import form, picker
from mcp_plugin.watching import Surface
from peer.machine import settings


def chosen_surface(call: Call) -> Surface:
    """Return the surface of the settings. In the newer era every answer is a call of its own, so it has the picker."""
    if not call.modern and call.can_ask and settings.approval_ui(call.session.folder) == "form":
        return form.gate
    return picker.gate
