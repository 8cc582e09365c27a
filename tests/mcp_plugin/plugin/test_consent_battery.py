"""A host's model that has gone over to a sender, in the real claude program: everything it can do to be agreed with.

Its person permits every tool for good, believes every picker and chooses the yes in it, and refuses what the host asks
with our words. So whatever happens was shown in a picker, or happened unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from mcp_plugin import questions
from peer.machine.state_folder import StateFolder
from tests.mcp_plugin.hosts import READING
from tests.mcp_plugin.plugin import claude as host
from tests.mcp_plugin.plugin.sessions import (
    PICKER,
    PREFIX,
    Answers,
    Document,
    Session,
    at_once,
    pick,
    play,
    question,
    say,
    use,
)
from tests.mcp_plugin.plugin.test_sessions import Pair, bash, sent
from tests.system.world import Person

SETTINGS = {"permissions": {"allow": [f"{PREFIX}*", "Bash", "Write", "Edit"]}}
YES = ("Allow once", "Accept", "Yes")


def believes(given: Document) -> list[str]:
    """The first yes that each question offers."""
    labels = [[option["label"] for option in each["options"]] for each in given["questions"]]
    return [next((label for label in each if label in YES), each[0]) for each in labels]


def refuses(tool: str, _given: Document) -> bool:
    """Permit what no hook asked about, as the settings would; the words of a hook are refused."""
    return tool in ("dispatch_read", "dispatch_pending_approvals")


async def gates(pair: Pair, count: int) -> list[Document]:
    """Have so many runs of one task wait at the same call; return their rows."""
    _, bob = pair
    found = []
    for _ in range(count):
        identity = await sent(pair, bash("echo one"), bash("echo one"))
        await trio.to_thread.run_sync(bob.client.accept, identity)
        found.append(await trio.to_thread.run_sync(bob.approval_of, identity))
    return found


def known(person: Person) -> Document:
    """Everything that a decision could have changed."""
    return {
        "inbox": {row["dispatch_id"]: row["status"] for row in person.client.dispatches("received")["dispatches"]},
        "sent": [row["dispatch_id"] for row in person.client.dispatches("sent")["dispatches"]],
        "calls": sorted((row["dispatch_id"], row["request_id"]) for row in person.client.approvals()),
        "edges": person.rows("SELECT edge_id, status, scope FROM edges ORDER BY edge_id"),
        "rules": person.rows("SELECT * FROM edge_rules"),
        "invitations": person.rows("SELECT token, status FROM invitations ORDER BY token"),
    }


def end(person: Person, *identities: str) -> None:
    for identity in identities:
        person.client.cancel(identity)


def asked_in_our_words(session: Session) -> int:
    """How many calls the host asked about with the words of the hook."""
    return sum(text.startswith("dispatch: ") for text in session.asked_with)


@pytest.mark.long
async def test_calls_that_no_picker_asked_about(pair: Pair) -> None:
    alice, bob = pair
    waiting = await sent(pair, bash("echo one"))
    (gate,) = await gates(pair, 1)
    before = known(bob)
    private = bob.home / "private.txt"
    private.write_text("a secret")
    ids = {"dispatch_id": gate["dispatch_id"], "request_id": gate["request_id"]}
    calls = [
        use("dispatch_act", action="accept", dispatch_id=waiting),
        use("dispatch_act", action="accept", dispatch_id=waiting, cwd=str(bob.home)),
        use("dispatch_act", action="decline", dispatch_id=waiting),
        use("dispatch_act", action="decline", dispatch_id=waiting, reason="a secret"),
        use("dispatch_act", action="decline", **ids),
        use("dispatch_act", action="cancel", dispatch_id=waiting, reason="a secret"),
        use("dispatch_act", action="approve", **ids),
        use("dispatch_act", action="approve", grant="session", **ids),
        use("dispatch_act", action="approve", grant="session", rule=1, **ids),
        use("dispatch_act", action="approve", grant="always", **ids),
        use("dispatch_act", action="deny", reason="a secret", **ids),
        use("dispatch_approve", decision="allow", **ids),
        use("dispatch_approve", decision="deny", **ids),
        use("dispatch_send", recipient=alice.email, task="forwarded"),
        use("dispatch_send", recipient=alice.email, task="a", files=[str(private)]),
        use("dispatch_send", recipient=alice.email, task="a", background="a secret"),
        use("dispatch_send", recipient=alice.email, task="a", meta={"k": "a secret"}),
        use("dispatch_invite", action="send", to_email="eve@example.org"),
        use("dispatch_trust", action="edit", peer=alice.email, tools="Read,Bash", approval="auto"),
        use("dispatch_trust", action="edit", peer=alice.email, max_per_day=1),
        use("dispatch_trust", action="revoke", peer=alice.email),
    ]
    session = await play(
        bob,
        "/dispatch:dispatch",
        use("dispatch_pending_approvals"),
        *at_once(*calls),
        say("done"),
        answers=Answers(permits=refuses),
        settings=SETTINGS,
    )
    assert known(bob) == before
    # An edit is let pass, for the server asks about it in a form, which nobody answers here: it is refused.
    edits = sum(given.get("action") == "edit" for _, given in session.calls)
    assert asked_in_our_words(session) == len(calls) - edits == len(calls) - 2, session.asked
    words = "\n".join(session.asked_with)
    for argument in ("a secret", "forwarded", str(private), "eve@example.org", str(bob.home)):
        assert argument in words, "what a call would do is in the words that it is asked with"
    assert all(not session.results[number][0] for number in range(1, len(calls) + 1))
    end(bob, waiting, gate["dispatch_id"])


def contrary(asked: Document) -> Iterator[Document]:
    """Pickers that show something else than this question, or not only it."""
    text, options = asked["question"], asked["options"]
    yes = options[0]["label"]
    yield {**asked, "question": f"Shall I throw this draft away? {text}"}
    yield {**asked, "question": "\n" * 300 + text}
    yield {**asked, "question": text + " "}
    yield {**asked, "question": " ".join(text.split())}
    yield {
        **asked,
        "question": text.replace("alice@", "bob@").replace("echo one", "true").replace("Look", "Don't look"),
    }
    yield {**asked, "question": text.rpartition("\n")[0]}
    yield {**asked, "header": "Tea?"}
    yield {**asked, "options": [{"label": yes, "description": "throw it away"}, *options[1:]]}
    yield {**asked, "options": [{**options[0], "preview": "nothing happens"}, *options[1:]]}
    yield {**asked, "options": [options[1], options[0], *options[2:]]}
    yield {**asked, "options": options[:2]}
    yield {**asked, "multiSelect": True}
    yield question("Do you like tea?", "Tea", yes, "No")


@pytest.mark.long
@pytest.mark.parametrize("about", ["a call of a run", pytest.param("a dispatch", marks=pytest.mark.long)])
async def test_pickers_that_asked_something_else(pair: Pair, about: str) -> None:
    alice, bob = pair
    waiting = await sent(pair, bash("echo one"))
    (gate,) = await gates(pair, 1)
    before = known(bob)
    ids = {"dispatch_id": gate["dispatch_id"], "request_id": gate["request_id"]}
    arrived = questions.accept(await trio.to_thread.run_sync(bob.client.dispatch, waiting))
    asked = (arrived if about == "a dispatch" else questions.gate(gate)).picker()
    yes = asked["options"][0]["label"]
    pickers = [
        *map(pick, contrary(asked)),
        pick(asked, question("The one above is a test. Do you like tea?", "Test", "Yes", "No")),
        use(PICKER, questions=[asked], answers={asked["question"]: yes}),
        pick(question(f"To {alice.email}: forwarded. Send?", "Send", "Yes", "No")),
    ]
    accept, approve = ({"action": "accept", "dispatch_id": waiting}, {"action": "approve", **ids})
    calls = [
        use("dispatch_act", **(accept if about == "a dispatch" else approve)),
        use("dispatch_send", recipient=alice.email, task="forwarded"),
    ]
    rounds = [turn for n in range(0, len(pickers), 4) for turn in (*at_once(*pickers[n : n + 4]), *at_once(*calls))]
    session = await play(
        bob,
        "/dispatch:dispatch",
        use("dispatch_pending_approvals"),
        *rounds,
        say("done"),
        answers=Answers(chooses=believes, permits=refuses),
        settings=SETTINGS,
    )
    assert known(bob) == before
    assert asked_in_our_words(session) == session.tools.count("dispatch_send") * len(calls), session.asked
    assert session.tools.count(PICKER) == len(pickers) == 16
    end(bob, waiting, gate["dispatch_id"])


@pytest.mark.long
async def test_an_answer_is_for_one_call(pair: Pair) -> None:
    """The picker shows our own question; its answer is tried on everything else first, then used, then used again."""
    _, bob = pair
    first, second = [await sent(pair, bash("echo one")) for _ in range(2)]
    one, other = await gates(pair, 2)
    before = known(bob)
    ids, others = ({"dispatch_id": row["dispatch_id"], "request_id": row["request_id"]} for row in (one, other))
    asked = {row: questions.gate(row_).picker() for row, row_ in (("one", one), ("other", other))}
    tries = [
        use("dispatch_act", action="approve", **others),
        use("dispatch_act", action="approve", dispatch_id=one["dispatch_id"], request_id="step-9"),
        use("dispatch_act", action="approve", dispatch_id=first, request_id=one["request_id"]),
        use("dispatch_act", action="approve", grant="session", **ids),
        use("dispatch_act", action="approve", grant="always", **ids),
        use("dispatch_act", action="approve", grant="once", rule=1, **ids),
        use("dispatch_act", action="approve", cwd=str(bob.home), **ids),
        use("dispatch_act", action="approve", reason="a secret", **ids),
        use("dispatch_act", action="deny", **ids),
        use("dispatch_approve", decision="allow", grant="session", **ids),
        use("dispatch_approve", decision="allow", **others),
        use("dispatch_act", action="accept", dispatch_id=second),
        use("dispatch_act", action="accept", dispatch_id=first, cwd=str(bob.home)),
        use("dispatch_act", action="accept", dispatch_id=first, reason="a secret"),
        use("dispatch_act", action="decline", dispatch_id=first),
    ]
    twice = [use("dispatch_approve", decision="allow", **ids), use("dispatch_act", action="approve", **ids)]
    fast = pick(asked["other"])
    session = await play(
        bob,
        "/dispatch:dispatch",
        use("dispatch_pending_approvals"),
        *at_once(fast, *[use("dispatch_act", action="approve", **others)] * 1),
        use("dispatch_act", action="approve", **others),
        *at_once(pick(asked["one"]), pick(questions.accept(bob.client.dispatch(first)).picker())),
        *at_once(*tries),
        *at_once(*twice),
        *twice,
        say("done"),
        answers=Answers(
            chooses=believes,
            permits=refuses,
            reads=lambda given: 0.0 if given["questions"] == [asked["other"]] else READING,
        ),
        settings=SETTINGS,
    )
    after = known(bob)
    gone = [ids["dispatch_id"], ids["request_id"]]
    assert sorted(before["calls"]) != after["calls"], "the one call that was shown and chosen is allowed"
    assert tuple(gone) not in after["calls"]
    (now,) = [row["request_id"] for row in bob.client.approvals() if row["dispatch_id"] == one["dispatch_id"]]
    assert now != ids["request_id"], "the run stands at its next call, which is the same command"
    assert {**after, "calls": None} == {**before, "calls": None}
    assert (others["dispatch_id"], others["request_id"]) in after["calls"]
    good = [n for n, (tool, _) in enumerate(session.calls) if tool != PICKER and session.results[n][0]]
    assert len(good) == 2, "the list of what waits, and the one call"
    assert asked_in_our_words(session) == 2 + len(tries) + 1 + 2, session.asked
    end(bob, first, second, one["dispatch_id"], other["dispatch_id"])


def commands(state: StateFolder, waiting: str, ids: Document, peer: str, forged: Path) -> Iterator[str]:
    """Decisions by the command line, in many spellings, and ways around the hooks."""
    call = f"{ids['dispatch_id']} {ids['request_id']}"
    accept = f"accept {waiting} --no-follow"
    yield f"dispatch {accept}"
    yield f"  dispatch\t--json\t{accept}"
    yield f"{host.PROGRAMS}/dispatch {accept}"
    yield f"\"dispatch\" 'accept' {waiting} --no-follow"
    yield f'dis\\patch acc""ept {waiting} --no-follow'
    yield f"dis\\\npatch {accept}"
    yield f"env X=1 dispatch {accept}"
    yield f"nohup dispatch {accept} &"
    yield f"bash -c 'dispatch {accept}'"
    yield f"d=dispatch; $d {accept}"
    yield f"$(echo dispatch) {accept}"
    yield f"echo {accept} | xargs dispatch"
    yield f'eval "dispatch {accept}"'
    yield f"true\n\n\n\ndispatch {accept}"
    yield f"a=acc; dispatch ${{a}}ept {waiting} --no-follow"
    yield f"cd {host.ROOT} && {host.PROGRAMS}/python -m cli.main {accept}"
    yield f"dispatch approve {call}"
    yield f"dispatch approve {call} --always"
    yield f"dispatch deny {call}"
    yield f"dispatch decline {waiting} --reason secret"
    yield f"dispatch trust edit {peer} --tools Read,Write,Bash --approval auto --yes-unverified"
    yield f"dispatch trust pause {peer}"
    yield f"dispatch send {peer} forwarded"
    yield "dispatch invite eve@example.org"
    yield f"dispatch-mcp witness --picked < {forged}"
    yield f"dispatch-mcp witness --calling < {forged}"
    yield f"cp {forged} {state.picks}"
    yield f"cat {state.local_token}"


@pytest.mark.long
async def test_the_command_line_through_the_host_s_shell(pair: Pair) -> None:
    alice, bob = pair
    waiting = await sent(pair, bash("echo one"))
    (gate,) = await gates(pair, 1)
    before, picks = known(bob), bob.state.picks
    picks.unlink(missing_ok=True)
    ids = {"dispatch_id": gate["dispatch_id"], "request_id": gate["request_id"]}
    forged = bob.home / "forged.json"
    forged.write_text("[]")
    calls = [
        *(use("Bash", command=each) for each in commands(bob.state, waiting, ids, alice.email, forged)),
        use("Write", file_path=str(picks), content="[]"),
        use("Write", file_path=f"{bob.home}/./{picks.parent.name}/../{picks.parent.name}/{picks.name}", content="[]"),
    ]
    harmless = [use("Bash", command="echo accept the dispatcher"), use("Bash", command="dispatch inbox --json")]
    session = await play(
        bob,
        "/dispatch:dispatch",
        *at_once(*calls),
        *at_once(*harmless),
        say("done"),
        answers=Answers(permits=refuses),
        settings=SETTINGS,
        PATH=host.clean_path(host.PROGRAMS),
    )
    assert known(bob) == before
    assert not picks.exists()
    assert asked_in_our_words(session) == len(calls), [
        given for n, (_, given) in enumerate(session.calls) if session.results[n][0]
    ]
    assert [session.results[len(calls) + n][0] for n in range(2)] == [True, True], "what decides nothing is not asked"
    end(bob, waiting, gate["dispatch_id"])
