"""Mistakes that the daemon finds: it says who or what may be meant, and the command that leads out.

Those that are found before the daemon is asked are in tests/cli/test_mistakes.py.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from peer.trust.durations import forms
from tests.seed.conftest import People, Scene

MISTAKES = [
    ("alice", "send bob@example.org ''", "the task is empty", "describe in words what is to be done"),
    ("alice", "send bob hello", "no contact is called 'bob'", "did you mean bob@example.org?"),
    ("alice", "send bobb hello", "no contact is called 'bobb'", "did you mean bob@example.org?"),
    (
        "alice",
        "send bob@exmaple.org hello",
        "bob@exmaple.org has not accepted an invitation of yours",
        "did you mean bob@example.org? Else invite them: `dispatch invite bob@exmaple.org`",
    ),
    ("alice", "cancel DONE", "this dispatch is already completed", "`dispatch inbox` or `dispatch sent`"),
    ("alice", "invite bob", "'bob' is not an e-mail address", "write it like name@example.org"),
    ("alice", "invite bob@example.org", "has already granted you a trust edge", "`dispatch send bob@example.org '…'`"),
    ("alice", "invite alice@example.org", "you cannot invite yourself", "somebody else's e-mail address"),
    ("alice", "trust show bob@example.org", "bob@example.org may not dispatch to you", "see `dispatch contacts`"),
    ("bob", "trust show alcie@example.org", "alcie@example.org may not dispatch to you", "did you mean alice@example"),
    ("alice", "trust revoke carol@example.org", "carol@example.org may not dispatch", "see `dispatch contacts`"),
    (
        "bob",
        "trust edit alice@example.org --expires 30",
        "the expiry `30` is in the past, or less than a minute away",
        f"give {forms()}; a date",
    ),
    (
        "bob",
        "trust edit alice@example.org --expires soon",
        "`soon` is neither a length of time nor a date",
        f"give {forms()}; a date (2027-01-31); or never",
    ),
    ("alice", "block bob", "no contact is called 'bob'", "did you mean bob@example.org?"),
    (
        "alice",
        "receipt DONE --out parser.receipt",
        "parser.receipt already exists",
        "choose another file with --out FILE",
    ),
]


@pytest.mark.parametrize(("who", "typed", "said", "fix"), MISTAKES, ids=[typed for _, typed, _, _ in MISTAKES])
def test_a_mistake_leads_out(done: Scene, tmp_path: Path, who: str, typed: str, said: str, fix: str) -> None:
    """Seen to fail with "see `dispatch contacts`" alone for an address that is nearly a contact's."""
    there = tmp_path / "parser.receipt"
    there.write_text("mine")
    words = [{"DONE": done.short, there.name: str(there)}.get(word, word) for word in shlex.split(typed)]
    people: People = done.people
    error = getattr(people, who).refused(*words)
    assert said in error["message"] and fix in error["fix"], error
    assert there.read_text() == "mine"
