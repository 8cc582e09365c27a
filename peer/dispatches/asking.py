"""The rules that an `always` for a waiting tool call may store, and their wording. Each program shows them itself."""

from __future__ import annotations

from collections.abc import Mapping

from peer.dispatches.text import line
from peer.protocol.documents import Document

_REACH = {"prefix": ", or with further words", "folder": ", or anything below it"}


def rule_text(rule: object) -> str:
    """Return a rule in words: `Bash(git status), or with further words`."""
    if not isinstance(rule, Mapping):
        return line("" if rule is None else str(rule))
    return f"{line(str(rule.get('tool')))}({line(str(rule.get('pattern')))}){_REACH.get(str(rule.get('reach')), '')}"


def offered_rules(call: Document) -> list[Document]:
    """Return the rules that an `always` for this call may store, narrowest first; [] if it cannot store any."""
    narrowest = call.get("rule_if_always")
    return list(call.get("rule_choices") or ([narrowest] if narrowest else []))
