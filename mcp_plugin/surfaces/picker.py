"""The picker: the call ends with `approval_needed`; the host asks with its own picker and calls again."""

from __future__ import annotations

from mcp_plugin import questions
from mcp_plugin.call import Call
from mcp_plugin.results import quoted
from peer.client.blocking import Document
from peer.dispatches.asking import offered_rules, rule_text

OPTIONS = ("Allow once", "Always allow", "Allow for this session", "Deny")
ASK = "ask at once: call AskUserQuestion with `question` as its one question, unchanged; then pass the answer on"

APPROVE = 'call dispatch_act(action="approve"), which asks the person in a form; or deny'


async def gate(call: Call, row: Document) -> Document | None:
    """Return the gate as the call's result; it counts as shown from now on."""
    call.session.show(row["dispatch_id"], row["request_id"])
    return {"status": "approval_needed", "next": ASK, **described(row)}


async def asked_by_form(call: Call, row: Document) -> Document | None:
    """Return the gate for a host that asks by forms, each of which ends a call: `approve` asks the person itself."""
    call.session.show(row["dispatch_id"], row["request_id"])
    return {"status": "approval_needed", "next": APPROVE, **described(row)}


def described(row: Document) -> Document:
    """Return a waiting tool call as a host gets it: all that a person needs to answer it."""
    rules = [{**rule, "text": rule_text(rule)} for rule in offered_rules(row)]
    document: Document = {
        "dispatch_id": row["dispatch_id"],
        "request_id": row["request_id"],
        "sender_id": row["sender_id"],
        "tool": row["tool"],
        "input": questions.shortened(row["input"], questions.WHOLE_CALL),
        "resolved_path": row.get("resolved_path"),
        "answer_within_seconds": row["expires_in"],
        "rule_if_always": rules[0] if rules else None,
        "rule_choices": rules,
        "question": questions.gate(row).picker(),
        "returns_to": f"what this returns goes to {row['sender_id']}",
    }
    for name in ("diff", "unusual", "sandbox", "agent_id"):
        if row.get(name):
            document[name] = questions.shortened(row[name], questions.WHOLE_CALL)
    return quoted(document)
