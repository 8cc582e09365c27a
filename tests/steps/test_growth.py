"""An earlier and a later version: what is ignored, refused, fitted, shown, and never taken as accepted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from peer.dispatches import fitting
from peer.protocol import codec, cose, signing, table
from peer.protocol import statements as s
from peer.protocol.content import Content
from peer.protocol.errors import Conflict, DispatchError, TooLarge
from peer.steps import granting, hellos, receiving, running
from peer.store import contacts, edges, outbox, trust_views, views
from peer.store.receipts import gather
from peer.trust import receipts, scopes
from peer.trust.receipts import Altered
from tests import newer
from tests.steps.people import Clock, Person, accept, connect, people, send

Pair = tuple[Clock, Person, Person]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with people(tmp_path, "alice", "bob") as (clock, alice, bob):
        connect(alice, bob)
        yield clock, alice, bob


def upgrade(patch: pytest.MonkeyPatch) -> None:
    newer.upgrade(patch.setitem, patch.setattr)


def sent_by_newer(alice: Person, bob: Person, **fields: str) -> str:
    """Have Alice's later version send a dispatch with these fields; return its id. Both are the earlier one again."""
    with pytest.MonkeyPatch.context() as patch:
        upgrade(patch)
        return send(alice, bob, meta={f"newer.{name}": value for name, value in fields.items()})


def document(person: Person, dispatch_id: str) -> dict[str, Any]:
    return views.dispatch_document(person.db, person.user, person.context.clock(), dispatch_id)


def finish(bob: Person, dispatch_id: str) -> None:
    attempt = bob.row(dispatch_id).attempt
    bob.step(lambda tx: running.start(tx, dispatch_id, attempt))
    bob.step(lambda tx: running.finish(tx, dispatch_id, attempt, "completed", reply="done"))


# -- ignored ------------------------------------------------------------------------------------------------------


def test_what_is_ignored_is_counted_signed_as_unread_and_proven_as_unseen(pair: Pair) -> None:
    _, alice, bob = pair
    dispatch_id = sent_by_newer(alice, bob, mood="cheerful")
    assert [answer.code for _, answer in alice.deliver(bob)] == [200]
    assert (document(bob, dispatch_id)["unknown_fields"], document(bob, dispatch_id)["unseen_fields"]) == (1, [])
    row = accept(bob, dispatch_id)
    decision, _ = signing.open_as(s.Decision, row.decision)
    assert (decision.read_version, decision.unread) == (1, ((201,),))
    assert receiving.accepted_dispatch(row).content.task == "say hello"
    finish(bob, dispatch_id)
    bob.deliver(alice)
    for person in (alice, bob):
        assert document(person, dispatch_id)["unseen_fields"] == ["201"]
        proven = receipts.verify(gather(person.db, person.context.identity.device_set, dispatch_id))
        assert (proven.unseen, proven.unknown) == (("201",), 1)
    with pytest.MonkeyPatch.context() as patch:
        upgrade(patch)
        assert (document(alice, dispatch_id)["unknown_fields"], document(alice, dispatch_id)["unseen_fields"]) == (
            0,
            ["mood"],
        )
        proven = receipts.verify(gather(bob.db, bob.context.identity.device_set, dispatch_id))
        assert (proven.unseen, proven.unknown, proven.dispatch.mood) == (("mood",), 0, "cheerful")  # type: ignore[attr-defined]


def test_an_upgrade_makes_nothing_effective_that_was_accepted_before_it(pair: Pair) -> None:
    """Seen to fail without the comparison of what the decision signed: the run got what nobody had seen."""
    _, alice, bob = pair
    dispatch_id = sent_by_newer(alice, bob, mood="cheerful")
    alice.deliver(bob)
    row = accept(bob, dispatch_id)
    with pytest.MonkeyPatch.context() as patch:
        upgrade(patch)
        with pytest.raises(Conflict, match="another version"):
            receiving.accepted_dispatch(row)
        bob.step(running.interrupt_all)  # as a new version's start does
        again = accept(bob, dispatch_id)
        decision, _ = signing.open_as(s.Decision, again.decision)
        assert (again.attempt, decision.unread) == (2, ())
        assert receiving.accepted_dispatch(again).mood == "cheerful"  # type: ignore[attr-defined]


def test_a_decision_cannot_disown_what_nobody_may_ignore(pair: Pair) -> None:
    """Else a recipient could prove that the task itself was never seen. Seen to fail without the check."""
    _, alice, bob = pair
    dispatch_id = send(alice, bob)
    alice.deliver(bob)
    accept(bob, dispatch_id)
    finish(bob, dispatch_id)
    whole = gather(bob.db, bob.context.identity.device_set, dispatch_id)
    decision, _ = signing.open_as(s.Decision, whole.decision)
    for changes, message in (
        ({"unread": ((40,),)}, "must not be ignored"),
        ({"unread": ((41, 3),)}, "must not be ignored"),
        ({"unread": ((),)}, "must not be ignored"),
        ({"read_version": 2}, "another version"),
    ):
        raw = signing.sign_by_device(dataclasses.replace(decision, **changes), bob.context.identity.seed).raw
        with pytest.raises(Altered, match=message):
            receipts.verify(dataclasses.replace(whole, decision=raw))


# -- refused ------------------------------------------------------------------------------------------------------


def test_a_critical_field_is_rejected_with_the_fix_and_taken_in_after_an_update(pair: Pair) -> None:
    """Seen to fail with the refusal remembered: the updated machine gave the old answer to the same bytes."""
    _, alice, bob = pair
    dispatch_id = sent_by_newer(alice, bob, witness="carol@example.org")
    (item,) = alice.waiting(bob)
    before = bob.dump()
    assert [answer.code for _, answer in alice.deliver(bob)] == [415]
    assert bob.dump() == before
    row = alice.row(dispatch_id)
    assert (row.state, row.code, row.fix) == (
        "rejected",
        415,
        f"ask {bob.user} to update dispatch, then send it again",
    )
    assert "key 101" in row.message
    with pytest.MonkeyPatch.context() as patch:
        upgrade(patch)
        assert bob.receive(alice, item.raw).code == 200


def test_unknown_types_and_versions_are_answered_for_good_and_forgotten(pair: Pair) -> None:
    _, alice, bob = pair
    with pytest.MonkeyPatch.context() as patch:
        upgrade(patch)
        ping = alice.context.sign_for(newer.Ping, bob.user, bob.device).raw
    cancel = alice.context.sign_for(s.Cancel, bob.user, bob.device, dispatch_id=alice.context.new_id()).raw
    envelope = cose.parse(cancel)
    content: Any = codec.decode(envelope.payload)
    later = cose.sign(
        codec.encode(content | {2: 2}), key=SigningKey(alice.context.identity.seed), kid=envelope.kid, typ=envelope.typ
    )
    count = outbox.remembered(bob.db, alice.device)
    for raw, message in (
        (ping, "no statement of type 'ping'"),
        (later, "a cancel up to version 1, not 2"),
        (alice.context.identity.device_set, "takes no device-set by courier"),
    ):
        answer = bob.receive(alice, raw)
        assert (answer.code, answer.final) == (415, True) and message in answer.message
    assert outbox.remembered(bob.db, alice.device) == count
    assert bob.receive(alice, cancel).code == 200


def test_what_the_trustor_tells_of_a_scope_grows_by_the_same_rule(pair: Pair) -> None:
    _, alice, bob = pair
    edge = edges.current(alice.db, bob.user, "outgoing")
    assert edge is not None
    told = msgspec.json.decode(edge.scope)

    def changed(members: dict[str, Any]) -> bytes:
        text = msgspec.json.encode(told | {"max_per_day": 7} | members).decode()
        return bob.context.sign_for(
            s.EdgeChange, alice.user, alice.device, edge_id=edge.edge_id, edge_status="active", scope=text
        ).raw

    def change(members: dict[str, Any]) -> int:
        return alice.receive(bob, changed(members)).code

    count = outbox.remembered(alice.db, bob.device)
    assert change({"only_on": ["monday"]}) == 415
    assert edges.get(alice.db, edge.edge_id) == edge
    # Seen to fail with the answer remembered: an updated machine gave the old one to the same bytes.
    assert outbox.remembered(alice.db, bob.device) == count
    assert change({"note?": {"any": ["thing"]}}) == 200
    stored = edges.get(alice.db, edge.edge_id)
    assert stored is not None and msgspec.json.decode(stored.scope) == told | {"max_per_day": 7}, (
        "a later version finds nothing that this one did not understand"
    )


@pytest.mark.parametrize(
    "text", ["[]", '{"note?":', '{"note?":' + "[" * 8000 + "]" * 8000 + "}", '{"a":1,"a":2}', "{}"]
)
def test_a_scope_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DispatchError):
        scopes.decode_summary(text)


# -- hellos and fitting -------------------------------------------------------------------------------------------


def hello_of(person: Person, **changes: Any) -> bytes:
    """A hello of a person's device with any fields."""
    own, _ = signing.open_as(s.Hello, person.step(hellos.make))
    return signing.sign_by_device(dataclasses.replace(own, **changes), person.context.identity.seed).raw


def known(person: Person, other: Person) -> tuple[bytes, int]:
    found = contacts.device(person.db, other.device)
    assert found is not None
    return found.hello, found.hello_counter


def test_a_hello_says_every_type_and_its_counter_only_grows(pair: Pair) -> None:
    clock, alice, _ = pair
    first, _ = signing.open_as(s.Hello, alice.step(hellos.make))
    assert first.versions == dict.fromkeys(s.TYPES, 1) and first.features == ()
    clock.now -= 86_400_000
    second, signed = signing.open_as(s.Hello, alice.step(hellos.make))
    assert second.counter > first.counter
    assert len(signed.raw) < hellos.MAX_HELLO / 4
    with pytest.MonkeyPatch.context() as patch:
        upgrade(patch)
        newest, _ = signing.open_as(s.Hello, alice.step(hellos.make))
        assert newest.features == ("no-network", "urgency") and newest.versions["ping"] == 1


def test_a_stored_hello_is_verified_once_and_few_are_kept(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is on another network looks up all contacts, and most connect with the hello that they had."""
    _, alice, bob = pair
    url, verified = "https://broker.example", list[bytes]()
    open_as = signing.open_as

    def counted(kind: type[s.Hello], raw: bytes) -> object:
        verified.append(raw)
        return open_as(kind, raw)

    raw = bob.step(lambda tx: hellos.make(tx, [url]))
    monkeypatch.setattr(hellos, "open_as", counted)
    hellos._marks.cache_clear()
    for _ in range(2):
        alice.step(lambda tx: hellos.take(tx, bob.device, raw))
    assert verified == [raw]
    device = contacts.device(alice.db, bob.device)
    assert device is not None
    for _ in range(2):
        assert hellos.brokers_among(device, [url, "https://other.example"]) == [url]
    assert verified == [raw, raw]
    monkeypatch.setattr(hellos, "open_as", lambda _kind, _raw: (SimpleNamespace(brokers=()), None))
    for number in range(2 * hellos._marks.cache_parameters()["maxsize"]):
        hellos._marks(b"%d" % number)
    assert hellos._marks.cache_info().currsize == hellos._marks.cache_parameters()["maxsize"]
    hellos._marks.cache_clear()


def test_a_feature_is_lost_by_a_later_hello_alone(pair: Pair) -> None:
    """Seen to fail without the counter."""
    _, alice, bob = pair
    able, less = hello_of(bob, counter=7, features=("urgency",)), hello_of(bob, counter=6, features=())
    alice.step(lambda tx: hellos.take(tx, bob.device, able))
    for older in (less, hello_of(bob, counter=7, features=())):
        with pytest.raises(Conflict):
            alice.step(lambda tx, older=older: hellos.take(tx, bob.device, older))  # type: ignore[misc]
    alice.step(lambda tx: hellos.take(tx, bob.device, able))
    assert known(alice, bob) == (able, 7)
    later = hello_of(bob, counter=8, features=())
    alice.step(lambda tx: hellos.take(tx, bob.device, later))
    assert known(alice, bob) == (later, 8)


def test_nobody_says_hello_for_another(tmp_path: Path) -> None:
    """Each seen to be kept without its check."""
    with people(tmp_path, "alice", "bob", "mallory") as (_, alice, bob, mallory):
        connect(alice, bob)
        stripped = hello_of(bob, counter=9, features=())
        connect(alice, mallory)
        for device, raw in (
            (mallory.device, stripped),  # somebody else's, over her own connection
            (bob.device, hello_of(mallory, counter=9)),
            (mallory.device, hello_of(mallory, counter=9, issuer_user=bob.user)),
            (bob.device, hello_of(mallory, counter=9, issuer_user=bob.user)),
            (bob.device, stripped[:-1] + bytes((stripped[-1] ^ 1,))),
            (bob.device, hello_of(bob, features=tuple(f"{n:064}" for n in range(64)))),
            (bob.device, b""),
        ):
            with pytest.raises(DispatchError):
                alice.step(lambda tx, device=device, raw=raw: hellos.take(tx, device, raw))
        assert known(alice, bob) == known(alice, mallory) == (b"", 0)
        stranger = hello_of(bob)
        with pytest.raises(DispatchError):
            mallory.step(lambda tx: hellos.take(tx, bob.device, stranger))


def test_a_hello_has_a_largest(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, alice, bob = pair
    raw = alice.step(hellos.make)
    monkeypatch.setattr(hellos, "MAX_HELLO", len(raw) - 1)
    with pytest.raises(TooLarge):
        bob.step(lambda tx: hellos.take(tx, alice.device, raw))
    monkeypatch.setattr(hellos, "MAX_HELLO", len(raw))
    bob.step(lambda tx: hellos.take(tx, alice.device, raw))


def test_a_dispatch_is_fitted_to_the_last_hello(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optional fields are left out and named, what matters is refused with the fix, and nothing is ever refitted."""
    from peer.steps import sending

    _, alice, bob = pair
    upgrade(monkeypatch)

    def compose(**fields: str) -> sending.Composed:
        meta = {f"newer.{name}": value for name, value in fields.items()}
        draft = sending.Draft(bob.user, Content(task="a task", meta=meta), 600)
        return alice.step(lambda tx: sending.compose(tx, draft))

    def signed_in(composed: sending.Composed) -> newer.NewerDispatch:
        return signing.open_as(newer.NewerDispatch, composed.row.raw)[0]

    fitted = compose(urgency="high", mood="cheerful")
    assert fitted.left_out == ("urgency",)
    assert (signed_in(fitted).urgency, signed_in(fitted).mood) == ("", "cheerful")
    before = alice.dump()
    with pytest.raises(Conflict, match="does not understand `no_network`") as refused:
        compose(no_network="yes")
    assert refused.value.fix == f"ask {bob.user} to update dispatch, or send it without `no_network`"
    assert alice.dump() == before

    hello = bob.step(hellos.make)
    alice.step(lambda tx: hellos.take(tx, bob.device, hello))
    whole = compose(urgency="high", no_network="yes")
    assert whole.left_out == ()
    assert (signed_in(whole).urgency, signed_in(whole).no_network) == ("high", "yes")
    less = hello_of(bob, counter=signing.open_as(s.Hello, hello)[0].counter + 1, features=("no-network",))
    alice.step(lambda tx: hellos.take(tx, bob.device, less))
    assert compose(urgency="high", no_network="yes").left_out == ("urgency",)
    assert alice.row(whole.row.dispatch_id).raw == whole.row.raw, "what is signed stays as it is"


def test_a_version_that_the_other_device_does_not_read_is_not_signed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peer.steps import sending

    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class Dispatch2(s.Dispatch):
        version = 2

    _, alice, bob = pair
    monkeypatch.setattr(sending, "Dispatch", Dispatch2)
    monkeypatch.setitem(s.VERSIONS, "dispatch", {1: s.Dispatch, 2: Dispatch2})
    with pytest.raises(Conflict, match="a dispatch of version 2"):
        send(alice, bob)
    monkeypatch.setitem(s.TYPES, "dispatch", Dispatch2)
    hello = bob.step(hellos.make)
    alice.step(lambda tx: hellos.take(tx, bob.device, hello))
    send(alice, bob)
    assert [answer.code for _, answer in alice.deliver(bob)] == [200]


def test_what_is_ignored_in_an_invitation_is_signed_by_who_accepts_it(tmp_path: Path) -> None:
    from peer.steps import invitation_answers, inviting
    from tests.steps.people import READ_ONLY

    with people(tmp_path, "alice", "bob") as (_, alice, bob):
        row = alice.step(lambda tx: inviting.invite(tx, bob.user)).row
        envelope = cose.parse(row.raw)
        content: Any = codec.decode(envelope.payload)
        raw = cose.sign(
            codec.encode(content | {300: "x"}),
            key=SigningKey(alice.context.identity.seed),
            kid=envelope.kid,
            typ=envelope.typ,
        )
        bob.step(lambda tx: inviting.on_invitation(tx, raw))
        (shown,) = trust_views.invitation_rows(bob.db, bob.context.clock(), lambda _row: "", ended=False)["received"]
        assert shown["unknown_fields"] == 1
        edge = bob.step(lambda tx: invitation_answers.accept(tx, row.token, READ_ONLY))
        acceptance, _ = signing.open_as(s.Acceptance, edge.acceptance)
        assert (acceptance.read_version, acceptance.unread) == (1, ((300,),))


def test_a_statement_of_the_courier_keeps_its_meaning_where_a_contact_is_paused(pair: Pair) -> None:
    """The later version's ordinary statements mean to the earlier one what they always did, and the other way round."""
    _, alice, bob = pair
    with pytest.MonkeyPatch.context() as patch:
        upgrade(patch)
        bob.step(lambda tx: granting.set_paused(tx, alice.user, paused=True))
    assert [answer.code for _, answer in bob.deliver(alice)] == [200]
    bob.step(lambda tx: granting.set_paused(tx, alice.user, paused=False))
    with pytest.MonkeyPatch.context() as patch:
        upgrade(patch)
        assert [answer.code for _, answer in bob.deliver(alice)] == [200]
        dispatch_id = send(alice, bob)
    assert [answer.code for _, answer in alice.deliver(bob)] == [200]
    assert document(bob, dispatch_id)["unknown_fields"] == 0


def test_a_later_field_that_is_empty_is_not_left_out() -> None:
    """The form that nothing was put into is signed as it was before there was such a field."""
    with pytest.MonkeyPatch.context() as patch:
        upgrade(patch)
        names = list(table.FEATURES)
        empty = fitting.fit(s.Dispatch, dict.fromkeys(names, ""), fitting.Understood(), peer="bob@example.org")
    assert names and empty == fitting.Fitted(dict.fromkeys(names, ""), ())
