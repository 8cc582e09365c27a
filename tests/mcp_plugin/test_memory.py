"""What the server remembers of a session."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import cast

from mcp_plugin.hosting import Hosting
from mcp_plugin.session import MAX_ENTRY, REMEMBERED, Question, Recent, Session, key
from peer.machine.state_folder import StateFolder


def test_a_session_remembers_what_came_last() -> None:
    recent: Recent[int] = Recent()
    for number in range(REMEMBERED + 10):
        recent[str(number)] = number
    recent["10"] = -1
    recent["one more"] = 0
    assert len(recent) == REMEMBERED
    assert "10" in recent and "11" not in recent


def test_what_a_session_remembers_is_bounded_in_bytes(tmp_path: Path) -> None:
    """Seen to fail with questions that keep their arguments, and with calls known by ids as they came."""
    session = Session(StateFolder(tmp_path / "state"), cast(Hosting, None), clock=lambda: 0.5)
    long = "x" * (4 * MAX_ENTRY)
    for number in range(REMEMBERED + 1):
        session.store_question(Question(key("dispatch_send", {"task": f"{number}{long}"}, long, [(long, long)]), 0.5))
        session.show(f"{number}{long}", long)
        session.tell(f"{number}", long)
    for kept in (session._questions, session._shown, session._folders):
        assert len(kept) == REMEMBERED
        assert len(pickle.dumps(dict(kept))) < REMEMBERED * MAX_ENTRY


def test_two_calls_are_one_only_where_all_of_them_is_the_same() -> None:
    assert key("a", {"b": 1, "c": 2}) == key("a", {"c": 2, "b": 1})
    assert len({key("a", "b"), key("a b"), key("a", ["b"]), key("a", {"b": None}), key("ab", "")}) == 5
