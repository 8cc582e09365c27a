"""Edges: the table, who may send and who is let in, stored rules."""

from collections.abc import Callable
from typing import cast, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import Conflict, Forbidden, Invalid
from peer.trust import edge_lifecycle
from peer.trust.edge_lifecycle import EDGE, ENDED, Event, Rule, Status
from peer.trust.scopes import Scope

STATUSES: tuple[Status, ...] = get_args(Status)
EVENTS: tuple[Event, ...] = get_args(Event)
BOB = "bob@example.org"
SCOPE = Scope(tools=("Read", "Bash"), mcp_servers=("mail",))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("event", EVENTS)
def test_what_is_not_listed_is_a_conflict(status: Status, event: Event) -> None:
    if event in EDGE[status]:
        assert edge_lifecycle.next_status(status, event) == EDGE[status][event]
    else:
        with pytest.raises(Conflict) as refused:
            edge_lifecycle.next_status(status, event)
        assert refused.value.code == 409 and status in refused.value.message and refused.value.fix


def test_what_cannot_be_is_said_in_english() -> None:
    """Seen to fail with "a trust edge that is paused cannot pause"."""
    for status, event, words in (
        ("paused", "pause", "the trust edge is already paused"),
        ("active", "resume", "the trust edge is active: it cannot be resumed"),
        ("expired", "edit", "the trust edge is expired: it cannot be edited"),
    ):
        with pytest.raises(Conflict) as refused:
            edge_lifecycle.next_status(cast(Status, status), cast(Event, event))
        assert refused.value.message == words


def test_what_each_status_permits_and_where_it_leads() -> None:
    always: set[Event] = {"confirm", "edit", "revoke", "expire"}
    permitted = {"offered": {*always, "decline"}, "active": {*always, "pause"}, "paused": {*always, "resume"}}
    assert {status: set(row) for status, row in EDGE.items() if row} == permitted
    for status, row in EDGE.items():
        leads = {
            "confirm": "paused" if status == "paused" else "active",
            "edit": status,
            "pause": "paused",
            "resume": "active",
            "revoke": "revoked",
            "expire": "expired",
            "decline": "declined",
        }
        assert row == {event: leads[event] for event in row}


@given(st.lists(st.sampled_from(EVENTS)))
def test_an_ended_edge_stays_ended_and_only_a_confirmation_opens_one(events: list[Event]) -> None:
    status: Status = "offered"
    done: list[Event] = []
    for event in events:
        before = status
        try:
            status = edge_lifecycle.next_status(status, event)
        except Conflict:
            continue
        done.append(event)
        assert before not in ENDED
    if status in ("active", "paused"):
        assert "confirm" in done and not {"revoke", "expire", "decline"} & set(done)


@pytest.mark.parametrize("status", [None, *STATUSES])
def test_only_an_active_edge_lets_anything_through(status: Status | None) -> None:
    if status == "active":
        edge_lifecycle.check_send(status, peer=BOB, expires=6, now=5)
        edge_lifecycle.check_admit(status, expires=6, now=5)
        return
    with pytest.raises(Forbidden) as sent:
        edge_lifecycle.check_send(status, peer=BOB, expires=None, now=5)
    with pytest.raises(Forbidden) as admitted:
        edge_lifecycle.check_admit(status, expires=None, now=5)
    assert sent.value.code == admitted.value.code == 403
    assert BOB in sent.value.message and BOB in sent.value.fix and admitted.value.fix


def test_without_a_contact_the_fix_is_to_invite() -> None:
    with pytest.raises(Forbidden) as refused:
        edge_lifecycle.check_send(None, peer=BOB, expires=None, now=0)
    assert refused.value.fix == "invite them: `dispatch invite bob@example.org`"


def test_an_edge_past_its_expiry_is_expired_before_anyone_writes_it_down() -> None:
    assert edge_lifecycle.current("active", expires=10, now=9) == "active"
    assert edge_lifecycle.current("active", expires=10, now=10) == "expired"
    assert edge_lifecycle.current("revoked", expires=10, now=10) == "revoked"
    checks: list[Callable[[], object]] = [
        lambda: edge_lifecycle.check_send("active", peer=BOB, expires=10, now=10),
        lambda: edge_lifecycle.check_admit("active", expires=10, now=10),
    ]
    for check in checks:
        with pytest.raises(Forbidden) as refused:
            check()
        assert "expired" in refused.value.message


def test_a_rule_is_stored_once_and_only_for_a_granted_tool() -> None:
    rule = Rule("Bash", "git status")
    rules = edge_lifecycle.with_rule((), rule, SCOPE)
    assert rules == edge_lifecycle.with_rule(rules, rule, SCOPE) == (rule,)
    assert len(edge_lifecycle.with_rule(rules, Rule("mcp__mail__send", "*"), SCOPE)) == 2
    assert len(edge_lifecycle.with_rule(rules, Rule("Bash", "git status", "prefix"), SCOPE)) == 2
    assert edge_lifecycle.with_rule((), longest := Rule("Bash", "x" * edge_lifecycle.MAX_PATTERN), SCOPE) == (longest,)
    outside = [Rule("Write", "x"), *(Rule(f"mcp__{name}", "x") for name in ("github__x", "mai", "mailbox__send"))]
    for bad in (*outside, Rule("Bash", ""), Rule("Bash", "x" * 10_001)):
        with pytest.raises(Invalid):
            edge_lifecycle.with_rule((), bad, SCOPE)
    with pytest.raises(Invalid):
        edge_lifecycle.with_rule(tuple(Rule("Bash", str(n)) for n in range(edge_lifecycle.MAX_RULES)), rule, SCOPE)


def test_narrowing_drops_the_rules_of_what_is_gone() -> None:
    rules = (Rule("Bash", "ls"), Rule("Read", "/a"), Rule("mcp__mail__send", "x"))
    assert edge_lifecycle.rules_within(rules, SCOPE) == rules
    assert edge_lifecycle.rules_within(rules, Scope(tools=("Read",))) == (Rule("Read", "/a"),)


def test_narrowing_the_folders_drops_the_rules_about_other_places() -> None:
    inside = (
        Rule("Read", "/p/a.py"),
        Rule("Write", "/p", "folder"),
        Rule("Grep", '"x in /q" in /p/src'),
        Rule("Grep", "/p/in here", "folder"),
        Rule("Glob", "/p/**/*.py"),
        Rule("Edit", "$WORKSPACE/a"),
        Rule("Edit", "$WORKSPACE", "folder"),
        Rule("Bash", "cat /q/b"),
    )
    outside = (
        Rule("Read", "/q/a.py"),
        Rule("Write", "/", "folder"),
        Rule("Edit", "/pq", "folder"),
        Rule("Grep", '"x" in /q'),
        Rule("Grep", "/q/a in /p", "folder"),
        Rule("Read", "/q/a in /p"),
        Rule("Glob", "/q/*"),
        Rule("Edit", "$WORKSPACES/a"),
    )
    tools = ("Read", "Glob", "Grep", "Write", "Edit", "Bash")
    assert edge_lifecycle.rules_within((*inside, *outside), Scope(tools=tools)) == (*inside, *outside)
    assert edge_lifecycle.rules_within((*inside, *outside), Scope(tools=tools, paths=("/p",))) == inside
