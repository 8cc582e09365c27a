"""Effects, transactions and the journal: one step, one list of effects, applied once and only when it is durable."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.machine import identity
from peer.machine.state_folder import StateFolder
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import Conflict
from peer.protocol.statements import TYPES, Addressed, Cancel
from peer.steps import inbound
from peer.steps.context import Context, wall_clock_ms
from peer.steps.effects import DeadlineSet, DispatchChanged, Effect, Effects, PeopleChanged, StopRun, Wake
from peer.steps.journal import Journal
from peer.steps.transaction import Transaction
from peer.store import contacts
from peer.store.blobs import Blobs
from peer.store.database import Store
from tests.steps.people import Person, connect, people, send

EFFECTS = st.one_of(
    st.builds(Wake, st.sampled_from("ab")),
    st.builds(DispatchChanged, st.sampled_from("xy")),
    st.builds(StopRun, st.sampled_from("xy"), st.just("because")),
    st.just(PeopleChanged()),
    st.builds(DeadlineSet, st.integers(1, 3)),
)


@given(st.lists(EFFECTS, max_size=12))
def test_effects_keep_their_first_place_and_are_there_once(noted: list[Effect]) -> None:
    """Seen to fail with a set, and with the later of two equal ones kept."""
    effects = Effects()
    for effect in noted:
        effects.note(effect)
    assert list(effects) == list(dict.fromkeys(noted))
    assert effects == Effects(noted) and len(effects) == len(set(noted))
    assert effects.woken() == {effect.device for effect in noted if isinstance(effect, Wake)}
    assert all(repr(effect) in repr(effects) for effect in noted)


def test_effects_are_equal_in_what_they_hold_and_in_its_order() -> None:
    a, b = Wake("a"), Wake("b")
    assert Effects([a, b]) == Effects([a, b, a])
    assert Effects([a, b]) != Effects([b, a]) and Effects([a]) != Effects([b]) and Effects() != []
    assert a in Effects([a]) and b not in Effects([a])


def test_the_first_deadline_is_the_earliest() -> None:
    assert Effects([DeadlineSet(2), Wake("a"), DeadlineSet(1), DeadlineSet(3)]).first_deadline() == 1


def test_the_wall_clock_is_in_whole_milliseconds() -> None:
    before = time.time_ns() // 1_000_000
    now = wall_clock_ms()
    assert type(now) is int and before <= now <= time.time_ns() // 1_000_000


def context_of(folder: Path) -> Context:
    state = StateFolder(folder)
    state.create()
    who = identity.prepare(state, "alice@example.org", "laptop", lambda: 1, bytes)
    return Context(state, who, Store.open(state.store), Blobs(state.blobs), lambda: 1_800_000_000_000)


async def test_a_step_applies_its_effects_once_it_is_durable(tmp_path: Path) -> None:
    """Seen to fail with effects applied inside the transaction, and with one list for all steps."""
    context, applied = context_of(tmp_path / "alice"), list[list[Effect]]()
    seen_by_others: list[int] = []

    def apply(effects: Effects) -> None:
        count = context.store._reader.execute("SELECT count(*) FROM blocked").fetchone()[0]
        seen_by_others.append(count)
        applied.append(list(effects))

    journal = Journal(context, apply)

    def block(tx: Transaction) -> str:
        contacts.block(tx.db, "bob@example.org", tx.now)
        tx.note(PeopleChanged())
        return "blocked"

    assert await journal.step(block) == "blocked"
    await journal.step(lambda tx: tx.note(Wake("somebody")))
    assert applied == [[PeopleChanged()], [Wake("somebody")]]
    assert seen_by_others == [1, 1]
    context.store.close()


async def test_a_step_that_fails_stores_and_applies_nothing(tmp_path: Path) -> None:
    context, applied = context_of(tmp_path / "alice"), list[Effects]()
    journal = Journal(context, applied.append)

    def fail(tx: Transaction) -> None:
        contacts.block(tx.db, "bob@example.org", tx.now)
        tx.note(PeopleChanged())
        raise Conflict("no")

    with pytest.raises(Conflict):
        await journal.step(fail)
    assert applied == []
    assert not await journal.read(lambda db: contacts.is_blocked(db, "bob@example.org"))
    context.store.close()


def test_a_part_that_fails_undoes_what_it_stored_and_noted(tmp_path: Path) -> None:
    """Seen to fail with effects that a failed part left in the step's."""
    with people(tmp_path, "alice") as (_, alice):

        def step(tx: Transaction) -> None:
            tx.note(Wake("first"))
            with pytest.raises(Conflict), tx.savepoint() as part:
                contacts.block(part.db, "bob@example.org", part.now)
                part.note(PeopleChanged())
                raise Conflict("no")
            with tx.savepoint() as part:
                contacts.block(part.db, "carol@example.org", part.now)
                part.note(DispatchChanged("x"))

        alice.step(step)
        assert list(alice.effects) == [Wake("first"), DispatchChanged("x")]
        assert contacts.is_blocked(alice.db, "carol@example.org")
        assert not contacts.is_blocked(alice.db, "bob@example.org")


def test_a_refused_statement_leaves_no_effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler stores, notes, and then refuses. Seen to fail with the handler given the step's own transaction."""
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        connect(alice, bob)
        dispatch_id = send(alice, bob)

        def handler(tx: Transaction, _signed: object) -> Acknowledgement:
            contacts.block(tx.db, "carol@example.org", tx.now)
            tx.note(PeopleChanged())
            raise Conflict("not this one")

        monkeypatch.setitem(inbound.HANDLERS, Cancel, handler)
        bob.effects = Effects()
        raw = cancelled(alice, bob, dispatch_id)
        assert bob.receive(alice, raw).code == 409
        assert list(bob.effects) == []
        assert not contacts.is_blocked(bob.db, "carol@example.org")
        assert bob.receive(alice, raw).code == 409  # remembered


def cancelled(sender: Person, recipient: Person, dispatch_id: str) -> bytes:
    signed = sender.context.sign_for(Cancel, recipient.user, recipient.device, dispatch_id=dispatch_id)
    return signed.raw


def test_a_posted_statement_is_queued_as_its_type_says(tmp_path: Path) -> None:
    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        edge_id = connect(alice, bob)
        dispatch_id = send(alice, bob)
        signed = alice.context.sign_for(Cancel, bob.user, bob.device, dispatch_id=dispatch_id)
        alice.effects = Effects()
        alice.step(lambda tx: tx.post(signed, edge_id=edge_id))
        first, second = alice.waiting(bob)
        assert (first.kind, first.priority, first.ordering) == ("cancel", 0, "")
        assert (second.kind, second.priority, second.ordering) == ("dispatch", 1, dispatch_id)
        assert {first.dispatch_id, second.dispatch_id} == {dispatch_id} and first.edge_id == edge_id
        assert list(alice.effects) == [Wake(bob.device)]


def test_what_ends_something_goes_before_all_else_and_events_go_last() -> None:
    """Each type that travels by courier; a new one has to be placed here."""
    kinds = [kind for kind in TYPES.values() if issubclass(kind, Addressed)]
    order = {kind.type_name: (kind.priority, kind.ordered_by) for kind in kinds}
    assert order == {
        "acceptance": (0, "edge_id"),
        "cancel": (0, ""),
        "confirmation": (0, "edge_id"),
        "decision": (1, "dispatch_id"),
        "decline": (1, ""),
        "dispatch": (1, "id"),
        "edge-change": (0, "edge_id"),
        "events": (2, "dispatch_id"),
        "result": (1, "dispatch_id"),
        "landing-report": (2, "dispatch_id"),
        "revocation": (0, ""),
    }


def test_a_transaction_has_one_time(tmp_path: Path) -> None:
    with people(tmp_path, "alice") as (clock, alice):

        def step(tx: Transaction) -> tuple[int, int, int]:
            first = tx.now
            clock.pass_seconds(5)
            with tx.savepoint() as part:
                return first, tx.now, part.now

        first, later, in_part = alice.step(step)
        assert first == later == in_part
