"""What the server remembers of a session."""

from __future__ import annotations

from mcp_plugin.session import REMEMBERED, Recent


def test_a_session_remembers_what_came_last() -> None:
    recent: Recent[int] = Recent()
    for number in range(REMEMBERED + 10):
        recent[str(number)] = number
    recent["10"] = -1
    recent["one more"] = 0
    assert len(recent) == REMEMBERED
    assert "10" in recent and "11" not in recent
