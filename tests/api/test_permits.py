"""What an edge permits, in words: each line has a weight and the subject that the page lists it under."""

from __future__ import annotations

import pytest

from peer.api.page.words import permits
from peer.trust.scopes import Scope

RULE = {"tool": "Bash", "pattern": "git status", "reach": "exact"}


@pytest.mark.parametrize("approval", ["manual", "review", "auto"])
@pytest.mark.parametrize("apply", ["review", "auto"])
def test_each_line_has_its_subject(approval: str, apply: str) -> None:
    scope = Scope(tools=("Read", "Write", "Bash"), mcp_servers=("mail",), approval=approval, apply=apply)  # type: ignore[arg-type]
    lines = permits(scope, "alice@example.org", [RULE])
    assert {line["weight"] for line in lines} <= {"yes", "no", "care"}
    subjects = {line["text"]: line["about"] for line in lines}
    assert set(subjects.values()) == {"may", "asked", "told"}
    for text, about in subjects.items():
        asks = any(words in text for words in ("asked", "Each waits", "always allowed", "in your folders"))
        assert (about == "asked") is asks, text
