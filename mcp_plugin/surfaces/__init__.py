"""How a person is asked about a tool call of a run: by the host's own picker, by a form of this server, or elsewhere.

The picker's answer comes back as a call of the host's model, so it counts only where the plugin's hooks have seen it.
Every other host is asked by forms; where it has none, the result says on which page or with which command the person
answers, and the model's word counts for nothing.
"""

from __future__ import annotations

import os

from mcp_plugin.call import Call
from mcp_plugin.surfaces import elsewhere, form, picker
from mcp_plugin.watching import Surface
from peer.machine import settings

PICKER_NAMED = "picker"


def relayed(call: Call) -> bool:
    """Whether an answer that the model passes on is taken for the person's.

    With the hooks of the plugin; and where the person said of their host, by $DISPATCH_APPROVAL_UI, that it has a
    picker of its own and is trusted with it.
    """
    return call.session.hooked or os.environ.get("DISPATCH_APPROVAL_UI", "").strip().lower() == PICKER_NAMED


def chosen_surface(call: Call) -> Surface:
    """Return the surface for this host. In the newer era every answer is a call of its own, so a gate ends the call."""
    wanted = settings.approval_ui(call.session.folder)
    if relayed(call):
        return form.gate if wanted == "form" and call.can_ask and not call.modern else picker.gate
    if not call.can_ask:
        return elsewhere.gate
    return picker.asked_by_form if call.modern else form.gate
