"""Edges after they exist: what an edit, a pause, a revocation or a block does on either side, and what none can."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from peer.protocol.errors import Conflict, NotFound
from peer.protocol.statements import Addressed, EdgeChange, FileRef, Revocation
from peer.steps import granting, invitation_answers, inviting, running
from peer.steps.effects import BrokerWriteQueued, Effects, PeopleChanged, StopRunsOfEdge
from peer.steps.transaction import Transaction
from peer.store import connection, contacts, dispatches, edges, invitations, rows
from peer.trust import scopes
from peer.trust.scopes import Scope
from tests.steps.people import READ_ONLY, Person, accept, connect, invite, people, send

WIDER = Scope(tools=("Read", "Bash"), mcp_servers=("mail",))
WIDER_TOLD = scopes.encode_summary(scopes.summary(WIDER))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Person, Person, str]]:
    """Alice, who may dispatch to Bob; the edge."""
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        edge_id = connect(alice, bob)
        alice.effects, bob.effects = Effects(), Effects()
        yield alice, bob, edge_id


def edge_of(person: Person, edge_id: str) -> rows.Edge:
    edge = edges.get(person.db, edge_id)
    assert edge is not None
    return edge


def says(author: Person, to: Person, kind: type[Addressed], **content: Any) -> int:
    """Sign a statement about an edge and bring it; return the code."""
    return to.receive(author, author.context.sign_for(kind, to.user, to.device, **content).raw).code


def test_an_edit_is_in_force_here_and_known_there(pair: tuple[Person, Person, str]) -> None:
    alice, bob, edge_id = pair
    bob.step(lambda tx: granting.edit(tx, alice.user, WIDER, mcp_commands={"mail": '["mail-server"]'}))
    assert scopes.decode(edge_of(bob, edge_id).scope) == WIDER
    assert list(edges.mcp_servers(bob.db, edge_id)) == ["mail"]
    assert PeopleChanged() in bob.effects
    bob.step(lambda tx: granting.edit(tx, alice.user, WIDER))  # the servers were not named: their pins stay
    assert list(edges.mcp_servers(bob.db, edge_id)) == ["mail"]
    assert [answer.code for _, answer in bob.deliver(alice)] == [200, 200]
    assert edge_of(alice, edge_id).scope == WIDER_TOLD
    assert PeopleChanged() in alice.effects


def test_rules_go_with_their_tool_and_a_wider_edge_says_which_would_act(pair: tuple[Person, Person, str]) -> None:
    """Bash granted, `rm -rf build` stored, narrowed to Read, Bash granted again: the rule is gone."""
    alice, bob, edge_id = pair
    stored = [("Bash", "rm -rf build"), ("Read", "/p/a"), ("mcp__mail__send", "{}")]

    def store() -> None:
        bob.step(lambda tx: granting.edit(tx, alice.user, WIDER))
        for tool, pattern in stored:
            edges.add_rule(bob.db, edge_id, tool, pattern, "exact", 1)

    def left() -> list[str]:
        return [rule.tool for rule in edges.rules(bob.db, edge_id)]

    def acting(scope: Scope) -> list[str]:
        return [rule.tool for rule in granting.rules_that_would_act(bob.db, edge_of(bob, edge_id), scope)]

    for narrower, kept in (
        (Scope(tools=("Read",)), ["Read"]),
        (Scope(tools=("Bash",), mcp_servers=("mail",)), ["Bash", "mcp__mail__send"]),
        (Scope(tools=("Read", "Bash"), paths=("/q",)), ["Bash"]),
    ):
        store()
        assert left() == acting(WIDER) == ["Bash", "Read", "mcp__mail__send"]
        assert acting(narrower) == kept
        bob.step(lambda tx: granting.edit(tx, alice.user, narrower))  # noqa: B023
        assert left() == kept
        bob.step(lambda tx: granting.edit(tx, alice.user, WIDER))
        assert left() == acting(WIDER) == kept
        for rule in edges.rules(bob.db, edge_id):
            edges.remove_rule(bob.db, edge_id, rule.rule_id)


def test_a_narrowing_that_fails_keeps_the_scope_and_the_rules(pair: tuple[Person, Person, str]) -> None:
    alice, bob, edge_id = pair
    bob.step(lambda tx: granting.edit(tx, alice.user, WIDER))
    edges.add_rule(bob.db, edge_id, "Bash", "ls", "exact", 1)

    def failing(tx: Transaction) -> None:
        granting.edit(tx, alice.user, READ_ONLY)
        raise Conflict("not now", fix="later")

    with pytest.raises(Conflict):
        bob.step(failing)
    assert scopes.decode(edge_of(bob, edge_id).scope) == WIDER
    assert [rule.pattern for rule in edges.rules(bob.db, edge_id)] == ["ls"]


def test_a_pause_is_in_force_on_both_sides_until_it_is_lifted(pair: tuple[Person, Person, str]) -> None:
    alice, bob, edge_id = pair
    for paused, status in ((True, "paused"), (False, "active")):
        alice.effects, bob.effects = Effects(), Effects()
        assert bob.step(lambda tx: granting.set_paused(tx, alice.user, paused=paused)).status == status  # noqa: B023
        with pytest.raises(Conflict):
            bob.step(lambda tx: granting.set_paused(tx, alice.user, paused=paused))  # noqa: B023
        bob.deliver(alice)
        assert edge_of(alice, edge_id).status == status
        assert PeopleChanged() in alice.effects


@pytest.mark.parametrize("kind", [EdgeChange, Revocation])
def test_an_edge_is_changed_by_the_device_that_granted_it(tmp_path: Path, kind: type[Addressed]) -> None:
    with people(tmp_path, "alice", "bob", "mallory") as (_, alice, bob, mallory):
        edge_id, other = connect(alice, bob), connect(alice, mallory)
        own = connect(mallory, alice)  # granted by Alice herself
        content = {"edge_status": "paused", "scope": WIDER_TOLD} if kind is EdgeChange else {}
        before = (edge_of(alice, edge_id), edge_of(alice, own))
        assert says(mallory, alice, kind, edge_id=edge_id, **content) == 404
        assert says(mallory, alice, kind, edge_id=own, **content) == 404
        assert says(mallory, alice, kind, edge_id=mallory.context.new_id(), **content) == 404
        assert (edge_of(alice, edge_id), edge_of(alice, own)) == before
        alice.db.execute(
            "INSERT INTO contact_devices (device, user_id, sealing_key, name) VALUES ('elsewhere', ?, ?, 'laptop')",
            (bob.user, bytes(32)),
        )
        alice.db.execute("UPDATE edges SET device = 'elsewhere' WHERE edge_id = ?", (edge_id,))
        assert says(bob, alice, kind, edge_id=edge_id, **content) == 404  # of his, by another device of his
        assert says(mallory, alice, kind, edge_id=other, **content) == 200
        alice.db.execute("UPDATE edges SET user_id = ? WHERE edge_id = ?", (bob.user, other))
        assert says(mallory, alice, kind, edge_id=other, **content) == 404  # granted by who had the device before


@pytest.mark.parametrize("ended", ["revoked", "expired", "declined"])
def test_a_change_revives_nothing(pair: tuple[Person, Person, str], ended: str) -> None:
    alice, bob, edge_id = pair
    alice.step(lambda tx: edges.set_status(tx.db, edge_id, ended, tx.now))
    before = edge_of(alice, edge_id)
    assert says(bob, alice, EdgeChange, edge_id=edge_id, edge_status="active", scope=WIDER_TOLD) == 200
    assert edge_of(alice, edge_id) == before


def test_a_change_with_a_scope_that_cannot_be_read_changes_nothing(pair: tuple[Person, Person, str]) -> None:
    alice, bob, edge_id = pair
    before = edge_of(alice, edge_id)
    assert says(bob, alice, EdgeChange, edge_id=edge_id, edge_status="paused", scope='{"tools":["Root"]}') == 422
    assert edge_of(alice, edge_id) == before


def test_a_revocation_ends_the_edge_once(pair: tuple[Person, Person, str]) -> None:
    alice, bob, edge_id = pair
    assert says(bob, alice, Revocation, edge_id=edge_id) == 200
    assert edge_of(alice, edge_id).status == "revoked" and PeopleChanged() in alice.effects
    alice.context.clock.pass_seconds(1)  # type: ignore[attr-defined]
    before, alice.effects = edge_of(alice, edge_id), Effects()
    assert says(bob, alice, Revocation, edge_id=edge_id) == 200
    assert edge_of(alice, edge_id) == before and PeopleChanged() not in alice.effects


def test_what_ended_cannot_be_changed_here(pair: tuple[Person, Person, str]) -> None:
    alice, bob, edge_id = pair
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    assert StopRunsOfEdge(edge_id) in bob.effects and PeopleChanged() in bob.effects
    before = bob.dump()
    for change in (
        lambda tx: granting.edit(tx, alice.user, WIDER),
        lambda tx: granting.set_paused(tx, alice.user, paused=False),
        lambda tx: granting.revoke(tx, alice.user),
        lambda tx: granting.remove_rule(tx.db, alice.user, 1),
    ):
        with pytest.raises(NotFound):
            bob.step(change)
    assert bob.dump() == before
    with pytest.raises(NotFound):
        alice.step(lambda tx: granting.edit(tx, bob.user, WIDER))  # what he granted is not hers to edit


def test_a_mistyped_address_leads_to_the_contact_who_may_be_meant(pair: tuple[Person, Person, str]) -> None:
    """Seen to fail with "see `dispatch contacts`" alone, where `send` named them."""
    alice, bob, _ = pair
    typed = "alcie" + alice.user[alice.user.index("@") :]
    for change in (
        lambda tx: granting.get_granted(tx.db, typed),
        lambda tx: granting.set_alias(tx, typed, "ally"),
        lambda tx: granting.type_address(tx, typed, "/ip4/127.0.0.1/tcp/4001", None),
    ):
        with pytest.raises(NotFound) as refused:
            bob.step(change)
        assert refused.value.fix == f"did you mean {alice.user}? `dispatch contacts` lists them"
    with pytest.raises(NotFound) as refused:
        granting.get_granted(alice.db, bob.user)
    assert refused.value.fix == "see `dispatch contacts`", "he is who is meant"


def test_results_that_were_not_fetched_are_withheld_by_a_revocation(pair: tuple[Person, Person, str]) -> None:
    alice, bob, _ = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    accept(bob, dispatch_id)
    file = FileRef("out.txt", 3, hashlib.sha256(b"out").digest())
    bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "failed", files=(file,)))
    (item,) = dispatches.files(bob.db, dispatch_id, "returned")
    assert dispatches.may_pull(bob.db, alice.device, item.statement, file.digest)
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    assert not dispatches.may_pull(bob.db, alice.device, item.statement, file.digest)


def test_blocking_drops_what_waits_and_declines_what_is_open(tmp_path: Path) -> None:
    """Of the blocked person alone: everybody else's edges, invitations and statements stay as they are."""
    with people(tmp_path, "alice", "bob", "carol") as (_, alice, bob, carol):
        connect(bob, alice)
        connect(bob, carol)
        open_token, carols = invite(alice, bob), invite(carol, bob)
        mine = bob.step(lambda tx: inviting.invite(tx, "dave@example.org")).row.token
        to_alice, to_carol = send(bob, alice), send(bob, carol)
        bob.effects = Effects()
        bob.step(lambda tx: granting.block(tx, alice.user))
        assert [item.dispatch_id for item in bob.waiting(alice)] == []
        assert [item.dispatch_id for item in bob.waiting(carol)] == [to_carol]
        assert bob.row(to_alice).state == "queued"
        known = {token: invitations.get(bob.db, token) for token in (open_token, carols, mine)}
        assert {token: row.status for token, row in known.items() if row} == {
            open_token: "declined",
            carols: "open",
            mine: "open",
        }
        assert [write.action for write in invitations.broker_writes(bob.db, "")] == ["declined"]
        assert PeopleChanged() in bob.effects and BrokerWriteQueued() in bob.effects
        assert contacts.is_blocked(bob.db, alice.user) and not contacts.is_blocked(bob.db, carol.user)


def test_blocking_after_a_revocation(pair: tuple[Person, Person, str]) -> None:
    alice, bob, edge_id = pair
    bob.step(lambda tx: granting.revoke(tx, alice.user))
    bob.deliver(alice)
    bob.effects = Effects()
    bob.step(lambda tx: granting.block(tx, alice.user))
    assert contacts.is_blocked(bob.db, alice.user) and PeopleChanged() in bob.effects
    assert bob.waiting(alice) == []
    assert edge_of(bob, edge_id).status == "revoked"


def test_whoever_is_unblocked_is_as_before_the_block_but_for_the_edge(pair: tuple[Person, Person, str]) -> None:
    alice, bob, edge_id = pair
    bob.step(lambda tx: granting.block(tx, alice.user))
    bob.effects = Effects()
    bob.step(lambda tx: granting.unblock(tx, alice.user))
    assert not contacts.is_blocked(bob.db, alice.user) and PeopleChanged() in bob.effects
    assert edge_of(bob, edge_id).status == "revoked"
    with pytest.raises(NotFound, match="is not blocked"):
        bob.step(lambda tx: granting.unblock(tx, alice.user))


def test_nothing_is_said_of_an_edge_that_is_only_offered(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        token = invite(alice, bob)
        bob.step(lambda tx: invitation_answers.accept(tx, token, READ_ONLY))
        kinds = [item.kind for item in bob.waiting(alice)]
        bob.step(lambda tx: granting.edit(tx, alice.user, WIDER))
        assert [item.kind for item in bob.waiting(alice)] == kinds == ["acceptance"]
        with pytest.raises(Conflict):
            bob.step(lambda tx: granting.set_paused(tx, alice.user, paused=True))


def test_what_was_not_delivered_before_a_revocation_ends_at_its_sender(tmp_path: Path) -> None:
    """Seen to fail: it stayed `running` there, as its result had been dropped with the edge."""
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        pending, running_, ended = (send(alice, bob) for _ in range(3))
        alice.deliver(bob)
        rows_ = {dispatch_id: accept(bob, dispatch_id) for dispatch_id in (running_, ended)}
        for row in rows_.values():
            bob.step(lambda tx, row=row: running.start(tx, row.dispatch_id, row.attempt))
        bob.deliver(alice)
        bob.step(lambda tx: running.finish(tx, ended, 1, "completed", reply="done"))
        bob.step(lambda tx: granting.revoke(tx, alice.user))
        kinds = [kind for kind, _ in bob.deliver(alice)]
        assert sorted(kinds) == ["result", "result", "revocation"]
        for dispatch_id in (pending, running_, ended):
            row = alice.row(dispatch_id)
            assert (row.state, row.closed > 0) == ("cancelled", True), dispatch_id
        assert alice.row(ended).message == f"{bob.user} revoked your trust edge"
        assert bob.row(ended).state == "completed" and bob.row(running_).state == "cancelled"


def test_a_result_that_comes_after_the_revocation_still_counts(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        dispatch_id = send(alice, bob)
        alice.deliver(bob)
        row = accept(bob, dispatch_id)
        bob.step(lambda tx: running.start(tx, dispatch_id, row.attempt))
        bob.deliver(alice)
        bob.step(lambda tx: running.finish(tx, dispatch_id, 1, "completed", reply="done"))
        (result,) = bob.waiting(alice)
        bob.step(lambda tx: granting.revoke(tx, alice.user))
        bob.deliver(alice)
        assert alice.row(dispatch_id).state == "cancelled"
        assert alice.receive(bob, result.raw).code == 200
        assert alice.row(dispatch_id).state == "completed"


def test_a_typed_address_stays_whatever_is_announced_and_goes_with_its_device(pair: tuple[Person, Person, str]) -> None:
    alice, bob, _ = pair
    address = "/ip4/127.0.0.1/tcp/4001"
    assert alice.step(lambda tx: granting.type_address(tx, bob.user, address, None)) == [bob.device]
    assert PeopleChanged() in alice.effects
    with connection.writing(alice.db):
        contacts.remember_addresses(alice.db, bob.device, ["/ip4/192.0.2.1/tcp/1"], seq=1, now=5)
    assert contacts.typed_addresses(alice.db) == {bob.device: (address,)}
    alice.step(lambda tx: granting.type_address(tx, bob.user, address, bob.device))
    assert contacts.typed_addresses(alice.db, bob.user) == {bob.device: (address,)}
    with connection.writing(alice.db):
        contacts.drop_device(alice.db, bob.device)
    assert contacts.typed_addresses(alice.db) == {}


def test_a_typed_address_is_taken_back(pair: tuple[Person, Person, str]) -> None:
    alice, bob, _ = pair
    address = "/ip4/127.0.0.1/tcp/4001"
    alice.step(lambda tx: granting.type_address(tx, bob.user, address, None))
    assert alice.step(lambda tx: granting.remove_address(tx, bob.user, address, bob.device)) == [bob.device]
    assert contacts.typed_addresses(alice.db) == {}
    for user, device in ((bob.user, None), (bob.user, alice.device), ("nobody@example.org", None)):
        with pytest.raises(NotFound):
            alice.step(partial(granting.remove_address, user_id=user, address=address, device=device))
        if device or user != bob.user:
            with pytest.raises(NotFound):
                alice.step(partial(granting.type_address, user_id=user, address=address, device=device))


def test_so_many_addresses_of_a_device_are_typed(pair: tuple[Person, Person, str]) -> None:
    """Seen to fail without the count."""
    alice, bob, _ = pair
    for port in range(granting.MAX_TYPED):
        address = f"/ip4/127.0.0.1/tcp/{port + 1}"
        alice.step(partial(granting.type_address, user_id=bob.user, address=address, device=None))
    with pytest.raises(Conflict):
        alice.step(lambda tx: granting.type_address(tx, bob.user, "/ip4/127.0.0.1/tcp/999", None))
    alice.step(lambda tx: granting.type_address(tx, bob.user, "/ip4/127.0.0.1/tcp/1", None))
    assert len(contacts.typed_addresses(alice.db)[bob.device]) == granting.MAX_TYPED
