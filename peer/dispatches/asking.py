"""What a person is asked about a waiting tool call: what hides in it, and the rules that an `always` may store.

Each program shows them itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from peer.dispatches.text import hides, line, line_excerpt
from peer.protocol.documents import Document

_REACH = {"prefix": ", or with more words after it", "folder": ", or anything inside it"}


HIDES = "contains invisible characters or long runs of spaces"


def hides_something(value: object) -> bool:
    """Whether a text anywhere in a call's input holds what a person would not see. `value` is not nested too deeply."""
    if isinstance(value, str):
        return hides(value)
    if isinstance(value, Mapping):
        return any(hides_something(part) for part in (*value, *value.values()))
    return isinstance(value, list) and any(map(hides_something, value))


def rule_text(rule: object) -> str:
    """Return a rule in words: `Bash(git status), or with more words after it`."""
    if not isinstance(rule, Mapping):
        return line("" if rule is None else str(rule))
    pattern = line_excerpt(str(rule.get("pattern")))
    return f"{line(str(rule.get('tool')))}({pattern}){_REACH.get(str(rule.get('reach')), '')}"


def offered_rules(call: Document) -> list[Document]:
    """Return the rules that an `always` for this call may store, narrowest first; [] if it cannot store any."""
    narrowest = call.get("rule_if_always")
    return list(call.get("rule_choices") or ([narrowest] if narrowest else []))
