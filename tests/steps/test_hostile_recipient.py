"""Mallory has an edge from nobody but granted Alice one: what her modified client may say of Alice's dispatches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peer.dispatches import reports
from peer.protocol import fields
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.documents import Document
from peer.protocol.statements import Addressed, Decision, Events, FileRef, Result, Revocation
from peer.steps import receiving, sending
from peer.steps.effects import FetchFiles
from peer.store import dispatches, lists, trace, views
from tests.steps.people import Clock, Person, accept, connect, people, send

START_OF_CHAIN = bytes(32)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Clock, Person, Person]]:
    with people(tmp_path, "alice", "mallory") as (clock, alice, mallory):
        connect(alice, mallory)
        yield clock, alice, mallory


def say(mallory: Person, alice: Person, kind: type[Addressed], **content: Any) -> Acknowledgement:
    """Sign any letter and bring it, past whatever Mallory's own steps would refuse."""
    if kind is Decision:
        content.setdefault("read_version", 1)
    signed = mallory.context.sign_for(kind, alice.user, alice.device, **content)
    return alice.receive(mallory, signed.raw)


def under_way(alice: Person, mallory: Person) -> str:
    """Have a dispatch accepted, and Alice know it."""
    dispatch_id = send(alice, mallory)
    alice.deliver(mallory)
    accept(mallory, dispatch_id)
    mallory.deliver(alice)
    return dispatch_id


def events(mallory: Person, alice: Person, dispatch_id: str, *texts: str) -> Acknowledgement:
    count, head = trace.head(alice.db, dispatch_id, 1)
    return say(
        mallory, alice, Events, dispatch_id=dispatch_id, attempt=1, sequence=count, previous=head, events=tuple(texts)
    )


def result(mallory: Person, alice: Person, dispatch_id: str, **content: Any) -> Acknowledgement:
    count, head = trace.head(alice.db, dispatch_id, 1)
    facts = {
        "dispatch_id": dispatch_id,
        "dispatch_digest": alice.row(dispatch_id).digest,
        "attempt": 1,
        "status": "completed",
        "head": head,
        "count": count,
    }
    return say(mallory, alice, Result, **(facts | content))


def shown(alice: Person, dispatch_id: str) -> Document:
    return views.dispatch_document(alice.db, alice.user, alice.context.clock(), dispatch_id)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '"kind"',
        "{",
        '{"kind":1}',
        '{"text":"no kind"}',
        '{"kind":"x","n":1e999}',
        '{"kind":"x","t":"\\ud800"}',
        "[" * 100_000,
        '{"kind":"x","deep":' + "[" * 200_000,
        '{"kind":"x","deep":' + "[" * 200 + "]" * 200 + "}",
    ],
    ids=range(11),
)
def test_events_that_no_reader_could_show_are_refused(pair: tuple[Clock, Person, Person], text: str) -> None:
    _, alice, mallory = pair
    dispatch_id = under_way(alice, mallory)
    assert events(mallory, alice, dispatch_id, text).code == 422
    assert shown(alice, dispatch_id)["events"] == []


def test_an_event_does_not_say_what_is_ours_to_say(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, mallory = pair
    dispatch_id = under_way(alice, mallory)
    hostile = '{"kind":"status","seq":-1,"attempt":"9","at":99999999999999999,"status":"completed"}'
    assert events(mallory, alice, dispatch_id, hostile, '{"kind":"reasoning","text":"hm","at":0}').code == 200
    first, second = shown(alice, dispatch_id)["events"]
    assert (first["seq"], first["attempt"], "at" in first) == (1, 1, False)
    assert (second["seq"], second["attempt"], second["at"]) == (2, 1, "1970-01-01T00:00:00.000Z")


def test_a_trace_without_end_ends(pair: tuple[Clock, Person, Person], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_TRACE_BYTES", 500_000)
    _, alice, mallory = pair
    dispatch_id = under_way(alice, mallory)
    big = '{"kind":"reasoning","text":"%s"}' % ("x" * 100_000)
    codes = [events(mallory, alice, dispatch_id, big).code for _ in range(4)]
    # Another attempt is no other allowance.
    about = {"dispatch_id": dispatch_id, "dispatch_digest": alice.row(dispatch_id).digest}
    for decision in ("pending", "accepted"):
        assert say(mallory, alice, Decision, decision=decision, attempt=2, **about).code == 200
    again = say(
        mallory,
        alice,
        Events,
        dispatch_id=dispatch_id,
        attempt=2,
        sequence=0,
        previous=START_OF_CHAIN,
        events=(big,),
    )
    assert [*codes, again.code] == [200, 200, 413, 413, 413]
    assert len(trace.events(alice.db, dispatch_id)) == 2


def test_nothing_is_added_after_the_result(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, mallory = pair
    dispatch_id = under_way(alice, mallory)
    assert result(mallory, alice, dispatch_id, reply="done").code == 200
    assert events(mallory, alice, dispatch_id, '{"kind":"reasoning","text":"later"}').code == 409
    assert result(mallory, alice, dispatch_id, reply="other").code == 200
    document = shown(alice, dispatch_id)
    assert document["events"] == [] and document["result"]["reply"] == "done"


@pytest.mark.parametrize(
    "files",
    [
        (FileRef("../../.bashrc", 10, bytes(32)),),
        (FileRef("/etc/passwd", 10, bytes(32)),),
        (FileRef("a\x1b[2J", 10, bytes(32)),),
        (FileRef("\u202etxt.exe", 10, bytes(32)),),
        (FileRef("empty", 0, bytes(32)),),
        (FileRef("huge", 1 << 52, bytes(32)),),
        (FileRef("one", 10, bytes(32)), FileRef("ONE", 10, bytes(32))),
    ],
)
def test_returned_files_keep_the_rules_of_sent_ones(
    pair: tuple[Clock, Person, Person], files: tuple[FileRef, ...]
) -> None:
    _, alice, mallory = pair
    dispatch_id = under_way(alice, mallory)
    assert result(mallory, alice, dispatch_id, files=files).code in (413, 422)
    assert dispatches.awaited_files(alice.db) == []
    assert FetchFiles() not in alice.effects


@pytest.mark.parametrize("field", ["sandbox", "scope"])
@pytest.mark.parametrize("text", ["{", "[]", "1", "[" * 4_000, '{"a":' * 700])
def test_facts_that_no_reader_could_show_are_refused(pair: tuple[Clock, Person, Person], field: str, text: str) -> None:
    _, alice, mallory = pair
    dispatch_id = under_way(alice, mallory)
    assert result(mallory, alice, dispatch_id, **{field: text}).code == 422
    assert shown(alice, dispatch_id)["result"] is None
    assert result(mallory, alice, dispatch_id, reply="done").code == 200  # the honest one may still come


def test_a_result_does_not_follow_a_refusal(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, mallory = pair
    dispatch_id = send(alice, mallory)
    alice.deliver(mallory)
    row = alice.row(dispatch_id)
    about = {"dispatch_id": dispatch_id, "dispatch_digest": row.digest, "attempt": 0}
    assert say(mallory, alice, Decision, decision="declined", reason="no", **about).code == 200
    files = (FileRef("late.bin", 10, bytes(32)),)
    assert result(mallory, alice, dispatch_id, attempt=1, files=files, reason="other").code == 409
    after = alice.row(dispatch_id)
    assert (after.state, after.message, after.result) == ("declined", f"{mallory.user} says: “no”", b"")
    assert dispatches.awaited_files(alice.db) == []


@pytest.mark.parametrize("cancelled", [False, True], ids=["waiting", "cancelled"])
@pytest.mark.parametrize("delivered", [False, True], ids=["on its way", "in the inbox"])
@pytest.mark.parametrize("attempt", [0, 1, 2])
@pytest.mark.parametrize("status", ["completed", "failed", "declined", "cancelled"])
def test_no_result_of_a_run_without_the_decision_that_accepted_it(
    pair: tuple[Clock, Person, Person], status: str, attempt: int, delivered: bool, cancelled: bool
) -> None:
    """Seen to fail where a result was measured by the attempt alone: `completed` of attempt 0, after a cancel."""
    _, alice, mallory = pair
    dispatch_id = send(alice, mallory)
    if delivered:
        alice.deliver(mallory)
    if cancelled:
        alice.step(lambda tx: sending.cancel(tx, dispatch_id, reason="never mind"))
    files = (FileRef("gift.bin", 10, bytes(32)),)
    result(mallory, alice, dispatch_id, status=status, attempt=attempt, files=files, reply="done")
    after = alice.row(dispatch_id)
    assert after.state not in ("completed", "failed")
    if status in ("completed", "failed") and attempt:
        assert after.result == b""
    assert dispatches.awaited_files(alice.db) == []


@pytest.mark.parametrize("delivered", [False, True], ids=["on its way", "in the inbox"])
@pytest.mark.parametrize("attempt", [1, 2, 9])
def test_no_events_of_a_run_without_the_decision_that_accepted_it(
    pair: tuple[Clock, Person, Person], attempt: int, delivered: bool
) -> None:
    """Seen to fail: the trace of a run that nobody accepted was shown."""
    _, alice, mallory = pair
    dispatch_id = send(alice, mallory)
    if delivered:
        alice.deliver(mallory)
    told = ('{"kind":"reasoning","text":"It is done.","at":1}',)
    first = {"dispatch_id": dispatch_id, "attempt": attempt, "sequence": 0, "previous": bytes(32), "events": told}
    assert say(mallory, alice, Events, **first).code == 409
    assert shown(alice, dispatch_id)["events"] == []


def test_a_result_is_of_the_attempt_that_was_accepted_last(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, mallory = pair
    dispatch_id = under_way(alice, mallory)
    for attempt in (0, 2, 7):
        result(mallory, alice, dispatch_id, attempt=attempt, reply="other")
        assert (alice.row(dispatch_id).state, alice.row(dispatch_id).result) == ("accepted", b"")
    assert result(mallory, alice, dispatch_id, reply="done").code == 200
    assert alice.row(dispatch_id).state == "completed"


def test_a_deadline_further_off_than_a_dispatch_may_live_is_not_taken(pair: tuple[Clock, Person, Person]) -> None:
    clock, alice, mallory = pair
    dispatch_id = send(alice, mallory)
    alice.deliver(mallory)
    digest = alice.row(dispatch_id).digest
    pending = {"dispatch_digest": digest, "attempt": 0, "decision": "pending", "expires": fields.LAST_TIME}
    assert say(mallory, alice, Decision, dispatch_id=dispatch_id, **pending).code == 200
    assert alice.row(dispatch_id).expires <= clock.now + 86_400_000 + 300_000
    listed = lists.dispatch_list(alice.db, alice.user, clock.now, direction="sent", status=None, limit=9, before=None)
    assert len(listed["dispatches"]) == 1


def test_a_word_about_one_dispatch_says_nothing_about_another(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, mallory = pair
    one, other = under_way(alice, mallory), send(alice, mallory)
    digest = alice.row(one).digest
    for kind, content in (
        (Decision, {"decision": "declined"}),
        (Result, {"status": "failed", "head": START_OF_CHAIN, "count": 0}),
    ):
        answer = say(mallory, alice, kind, dispatch_id=other, dispatch_digest=digest, attempt=0, **content)
        assert answer.code == 409
    assert alice.row(other).state == "queued"


def test_a_returned_file_that_is_refused_is_not_asked_for_again(pair: tuple[Clock, Person, Person]) -> None:
    _, alice, mallory = pair
    dispatch_id = under_way(alice, mallory)
    assert result(mallory, alice, dispatch_id, files=(FileRef("a.bin", 10, bytes(32)),)).code == 200
    ((device, item),) = dispatches.awaited_files(alice.db)
    assert device == mallory.device
    alice.step(lambda tx: receiving.on_file_refused(tx, item, "no such file"))
    assert dispatches.awaited_files(alice.db) == []
    assert [file["ready"] for file in shown(alice, dispatch_id)["result"]["files"]] == [False]


def test_files_of_an_edge_that_was_revoked_do_not_come(pair: tuple[Clock, Person, Person]) -> None:
    """Seen to fail where a revocation leaves them awaited: the sender kept asking, and the person kept waiting."""
    _, alice, mallory = pair
    dispatch_id = under_way(alice, mallory)
    assert result(mallory, alice, dispatch_id, files=(FileRef("a.bin", 10, bytes(32)),)).code == 200
    assert say(mallory, alice, Revocation, edge_id=alice.row(dispatch_id).edge_id).code == 200
    assert dispatches.awaited_files(alice.db) == []
    (file,) = shown(alice, dispatch_id)["result"]["files"]
    assert (file["ready"], file["withheld"]) == (False, True)
