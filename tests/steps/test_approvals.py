"""What a person's answer to a tool call needs, and what an `always` may store; what a run pins of its MCP servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peer.protocol.documents import Document
from peer.protocol.errors import Conflict, Invalid, NotFound
from peer.steps import granting, running
from peer.steps.effects import DispatchChanged, Effects, PeopleChanged
from peer.store import edges, rows, trace, views
from peer.trust.scopes import Scope
from tests.steps.people import Clock, Person, accept, connect, people, send

NARROW = {"tool": "Bash", "pattern": "git status -s", "reach": "exact"}
WIDER = {"tool": "Bash", "pattern": "git status", "reach": "prefix"}
CALL = {"tool": "Bash", "rule_if_always": NARROW, "rule_choices": [NARROW, WIDER]}
MINUTES = 2


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Clock, Person, str]]:
    """Bob, who has accepted a dispatch that may run Bash and use the server mail; its id."""
    with people(tmp_path, "alice", "bob") as (clock, alice, bob):
        connect(alice, bob, Scope(tools=("Read", "Bash"), mcp_servers=("mail",)))
        dispatch_id = send(alice, bob)
        alice.deliver(bob)
        accept(bob, dispatch_id)
        bob.effects = Effects()
        yield clock, bob, dispatch_id


def asked(bob: Person, dispatch_id: str, request_id: str = "c1", call: Document | None = None) -> None:
    now = bob.context.clock()
    text = msgspec.json.encode(CALL if call is None else call).decode()
    item = rows.Approval(dispatch_id, request_id, 1, text, now, now + MINUTES * 60_000, "", "")
    bob.step(lambda tx: running.ask(tx, item))


def answered(bob: Person, dispatch_id: str, request_id: str = "c1", **answer: Any) -> Document | None:
    """Answer a call; return the rule that was chosen."""
    given: dict[str, Any] = {"allow": True, "grant": "always", "note": ""} | answer
    return bob.step(lambda tx: running.answer(tx, dispatch_id, request_id, **given))[1]


def rules(bob: Person, dispatch_id: str) -> list[tuple[str, str, str]]:
    return [(rule.tool, rule.pattern, rule.reach) for rule in edges.rules(bob.db, bob.row(dispatch_id).edge_id)]


def unchanged(bob: Person, error: type[Exception], dispatch_id: str, **answer: Any) -> None:
    """An answer is refused, changes nothing, and the call can still be answered."""
    before = bob.dump()
    with pytest.raises(error):
        answered(bob, dispatch_id, **answer)
    assert bob.dump() == before


def test_an_answer_is_to_a_call_that_was_asked_about(pair: tuple[Clock, Person, str]) -> None:
    _, bob, dispatch_id = pair
    with pytest.raises(Conflict, match="nothing pending"):
        answered(bob, dispatch_id, "c1")
    asked(bob, dispatch_id)
    with pytest.raises(Conflict, match="asked twice"):
        asked(bob, dispatch_id)
    assert [item.request_id for item in trace.open_approvals(bob.db)] == ["c1"]


@pytest.mark.parametrize("closed_by", ["answer", "time", "end", "interruption"])
def test_a_call_that_is_decided_takes_no_room(pair: tuple[Clock, Person, str], closed_by: str) -> None:
    """A run asks as often as it likes, and what is kept of its trace does not count this. Seen to fail (each)."""
    _, bob, dispatch_id = pair
    call = {**CALL, "input": {"command": "x" * 1_000_000}, "diff": "y" * 10_000}
    for number in range(3):
        asked(bob, dispatch_id, f"c{number}", call)
        match closed_by:
            case "answer":
                answered(bob, dispatch_id, f"c{number}", allow=False, grant="once")
            case "time":
                bob.step(lambda tx: running.close_unanswered(tx, dispatch_id, f"c{number}"))  # noqa: B023
    if closed_by == "end":
        bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "failed"))
    if closed_by == "interruption":
        bob.step(running.interrupt_all)
    found = bob.db.execute("SELECT count(*), sum(length(call) + length(answer)) FROM approvals").fetchone()
    assert found[0] == 3 and found[1] < 300


def test_waiting_calls_are_read_page_by_page(pair: tuple[Clock, Person, str]) -> None:
    """Seen to fail without the limit, without the order beside the time, with the first page for every `before`, and
    with calls whose time is over.
    """
    clock, bob, dispatch_id = pair
    requests = [f"c{number}" for number in range(5)]
    for request_id in requests:
        asked(bob, dispatch_id, request_id)

    def page(before: str | None = None, limit: int = 2) -> Document:
        return views.approval_list(bob.db, clock(), limit=limit, before=before)

    assert len(trace.waiting_approvals(bob.db, clock(), limit=2)) == 2, "no more is read"
    first = page()
    assert ([row["request_id"] for row in first["approvals"]], first["more"]) == (["c0", "c1"], True)
    assert first["next"] == f"{dispatch_id} c1"
    answered(bob, dispatch_id, "c1", grant="once")
    second = page(first["next"])
    assert [row["request_id"] for row in second["approvals"]] == ["c2", "c3"], "decided meanwhile, it is a place still"
    last = page(second["next"])
    assert [row["request_id"] for row in last["approvals"]] == ["c4"] and (last["more"], last["next"]) == (False, None)
    assert [row["request_id"] for row in page(limit=50)["approvals"]] == ["c0", "c2", "c3", "c4"]
    for strange in ("", "c1", f"{dispatch_id} c9", f"{dispatch_id}"):
        with pytest.raises(NotFound):
            page(strange)
    clock.pass_seconds(MINUTES * 60)
    assert page() == {"approvals": [], "more": False, "next": None}


def test_always_stores_the_narrowest_rule_unless_a_wider_one_is_named(pair: tuple[Clock, Person, str]) -> None:
    _, bob, dispatch_id = pair
    for request_id, rule, chosen in (("c1", None, NARROW), ("c2", 0, NARROW), ("c3", 1, WIDER)):
        asked(bob, dispatch_id, request_id)
        bob.effects = Effects()
        assert answered(bob, dispatch_id, request_id, rule=rule) == chosen
        assert PeopleChanged() in bob.effects and DispatchChanged(dispatch_id) in bob.effects
    assert rules(bob, dispatch_id) == [("Bash", "git status -s", "exact"), ("Bash", "git status", "prefix")]


@pytest.mark.parametrize("rule", [-1, 2])
def test_a_rule_that_was_not_offered_is_not_granted(pair: tuple[Clock, Person, str], rule: int) -> None:
    _, bob, dispatch_id = pair
    asked(bob, dispatch_id)
    unchanged(bob, Invalid, dispatch_id, rule=rule)
    assert answered(bob, dispatch_id) == NARROW


def test_a_call_without_choices_offers_none(pair: tuple[Clock, Person, str]) -> None:
    _, bob, dispatch_id = pair
    asked(bob, dispatch_id, call={"tool": "Bash"})
    unchanged(bob, Invalid, dispatch_id, rule=0)
    unchanged(bob, Conflict, dispatch_id)  # nothing to store: an `always` that would be a `once` is refused
    assert answered(bob, dispatch_id, grant="session") is None


def test_once_grants_no_rule(pair: tuple[Clock, Person, str]) -> None:
    _, bob, dispatch_id = pair
    asked(bob, dispatch_id)
    unchanged(bob, Invalid, dispatch_id, grant="once", rule=0)
    assert answered(bob, dispatch_id, grant="once") is None
    assert rules(bob, dispatch_id) == []


def test_a_session_grant_is_not_stored(pair: tuple[Clock, Person, str]) -> None:
    _, bob, dispatch_id = pair
    asked(bob, dispatch_id)
    assert answered(bob, dispatch_id, grant="session", rule=1) == WIDER
    assert rules(bob, dispatch_id) == []


@pytest.mark.parametrize("grant", ["once", "session", "always"])
def test_a_denial_grants_nothing(pair: tuple[Clock, Person, str], grant: str) -> None:
    """Whatever else the answer says, also after the time for it has passed."""
    clock, bob, dispatch_id = pair
    asked(bob, dispatch_id)
    clock.pass_seconds(MINUTES * 60 + 1)
    assert answered(bob, dispatch_id, allow=False, grant=grant, rule=7) is None
    assert rules(bob, dispatch_id) == []
    assert [trace.approval(bob.db, dispatch_id, "c1").outcome] == ["denied"]  # type: ignore[union-attr]


def test_a_rule_is_for_a_tool_of_the_edge(pair: tuple[Clock, Person, str]) -> None:
    _, bob, dispatch_id = pair
    asked(bob, dispatch_id, call={"tool": "Write", "rule_if_always": {"tool": "Write", "pattern": "/p/a"}})
    unchanged(bob, Invalid, dispatch_id)


def test_an_answer_counts_until_its_deadline(pair: tuple[Clock, Person, str]) -> None:
    clock, bob, dispatch_id = pair
    asked(bob, dispatch_id)
    asked(bob, dispatch_id, "c2")
    clock.pass_seconds(MINUTES * 60)
    assert answered(bob, dispatch_id) == NARROW
    clock.now += 1
    with pytest.raises(Conflict, match="in time"):
        answered(bob, dispatch_id, "c2")
    bob.effects = Effects()
    bob.step(lambda tx: running.close_unanswered(tx, dispatch_id, "c2"))
    assert trace.open_approvals(bob.db) == [] and DispatchChanged(dispatch_id) in bob.effects


def pinned(bob: Person, dispatch_id: str) -> dict[str, str] | None:
    tools = edges.mcp_servers(bob.db, bob.row(dispatch_id).edge_id)["mail"].tools
    return msgspec.json.decode(tools) if tools else None


def test_the_first_list_of_a_servers_tools_is_pinned(pair: tuple[Clock, Person, str]) -> None:
    """Only of the command that the edge has pinned, and once: a later list meets the pins."""
    _, bob, dispatch_id = pair
    edge_id = bob.row(dispatch_id).edge_id
    bob.step(lambda tx: edges.pin_mcp_servers(tx.db, edge_id, {"mail": '["mail-server"]'}))

    def listed(server: str, command: list[str], tools: dict[str, str]) -> None:
        bob.step(lambda tx: running.pin_mcp_tools(tx.db, dispatch_id, 1, server, command, tools))

    listed("notes", ["mail-server"], {"send": "00"})
    listed("mail", ["another"], {"send": "00"})
    assert pinned(bob, dispatch_id) is None
    listed("mail", ["mail-server"], {"send": "aa"})
    listed("mail", ["mail-server"], {"send": "bb"})
    assert pinned(bob, dispatch_id) == {"send": "aa"}


@pytest.mark.parametrize("allow", [True, False])
def test_a_changed_tool_is_pinned_by_the_answer_that_allows_it(pair: tuple[Clock, Person, str], allow: bool) -> None:
    _, bob, dispatch_id = pair
    edge_id = bob.row(dispatch_id).edge_id
    bob.step(lambda tx: edges.pin_mcp_servers(tx.db, edge_id, {"mail": '["mail-server"]'}))
    bob.step(lambda tx: edges.pin_first_tools(tx.db, edge_id, "mail", '{"send":"aa"}'))
    asked(bob, dispatch_id, call={"tool": "mcp__mail__send", "mcp_pin": "cc"})
    answered(bob, dispatch_id, allow=allow, grant="once")
    assert pinned(bob, dispatch_id) == {"send": "cc" if allow else "aa"}
    asked(bob, dispatch_id, "c2", call={"tool": "mcp__mail__send__all", "mcp_pin": "dd"})
    answered(bob, dispatch_id, "c2", grant="once")
    assert (pinned(bob, dispatch_id) or {})["send__all"] == "dd"


def test_a_run_that_ended_leaves_no_question_and_asks_none(pair: tuple[Clock, Person, str]) -> None:
    _, bob, dispatch_id = pair
    asked(bob, dispatch_id)
    bob.step(lambda tx: running.start(tx, dispatch_id, 1))
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "completed"))
    assert trace.open_approvals(bob.db) == [] and bob.row(dispatch_id).code == 0
    with pytest.raises(Conflict, match="this run ended"):
        asked(bob, dispatch_id, "c2")


def test_a_rule_is_taken_back_by_its_number(pair: tuple[Clock, Person, str]) -> None:
    _, bob, dispatch_id = pair
    asked(bob, dispatch_id)
    answered(bob, dispatch_id)
    edge = bob.row(dispatch_id)
    (rule,) = edges.rules(bob.db, edge.edge_id)
    with pytest.raises(NotFound, match="has no rule"):
        bob.step(lambda tx: granting.remove_rule(tx.db, edge.peer, rule.rule_id + 1))
    bob.step(lambda tx: granting.remove_rule(tx.db, edge.peer, rule.rule_id))
    assert rules(bob, dispatch_id) == []
