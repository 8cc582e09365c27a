"""The form: one call asks at every gate by elicitation and follows the run to its end.

Where a form cannot be shown, or was answered faster than a person reads, the call ends as with the picker; where no
picker is trusted, with the commands by which the person answers.
"""

from __future__ import annotations

import trio

from mcp_plugin.call import Call
from mcp_plugin.open_questions import form_closed, form_opened
from mcp_plugin.questions import gate_text
from mcp_plugin.surfaces import elsewhere, picker
from peer.client.blocking import Document
from peer.dispatches.asking import offered_rules, rule_text
from peer.protocol.errors import Conflict, Gone

SHOWN = 6_000
"""Characters of a form. A call that needs more is answered by the picker."""

NOTE_SECONDS = 2.0
"""For the note that a form has closed, also where the call was cancelled; without it the note ends by its age."""

SHOWN_RULE = 400
"""Characters of a rule in an option. A longer rule is not offered, since a form would cut it off."""


async def gate(call: Call, row: Document) -> Document | None:
    """Ask about one call and send the answer to the node; return the gate where nobody can be asked."""
    message = question(row)
    if message is None:
        return await _left_open(call, row)
    client = await call.client()
    dispatch_id, request_id = row["dispatch_id"], row["request_id"]
    folder = call.session.folder
    opened = await trio.to_thread.run_sync(form_opened, folder, message)
    try:
        answer = await call.ask(message, options(row), seconds=float(row["expires_in"]))
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + NOTE_SECONDS):
            await trio.to_thread.run_sync(form_closed, folder, opened, abandon_on_cancel=True)  # type: ignore[call-arg]
    try:
        if answer.kind == "declined" or answer.value == "deny":
            await client.deny(dispatch_id, request_id)
        elif answer.value == "decline":
            await client.deny(dispatch_id, request_id, decline_dispatch=True)
        elif answer.kind == "chosen":
            await client.approve(dispatch_id, request_id, grant=answer.value)
        else:
            open_calls = await client.approvals()
            again = next((each for each in open_calls if each["request_id"] == request_id), None)
            if again is None:
                return None
            gate_document = await _left_open(call, again)
            if answer.kind == "too fast" and gate_document is not None:
                gate_document["too_fast"] = (
                    "the form was answered faster than a person can read, so the answer was not accepted"
                )
            return gate_document
    except (Conflict, Gone):
        pass  # answered elsewhere, or its time was over
    return None


async def _left_open(call: Call, row: Document) -> Document | None:
    from mcp_plugin.surfaces import relayed

    return await (picker.gate if relayed(call) else elsewhere.gate)(call, row)


def question(row: Document) -> str | None:
    """Return the text of the form; None where a form could not hold it."""
    text = gate_text(row)
    return text if len(text) <= SHOWN else None


def options(row: Document) -> list[tuple[str, str]]:
    """Return the options, in their fixed order."""
    rules = [text for rule in offered_rules(row)[:1] if len(text := rule_text(rule)) <= SHOWN_RULE]
    always = [("always", f"2. Always: store the rule {text}") for text in rules]
    return [
        ("once", "1. Allow once"),
        *always,
        ("session", "3. Allow for this session: calls like it, until this run ends"),
        ("deny", "4. Deny"),
        ("decline", "5. Decline the dispatch: end the run"),
    ]
