"""A host's model that was talked into it tries everything: it gets nothing that a person did not agree to.

The model is played by the test, with every tool and no scruples; the person is a form that is answered, or not.
"""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any, cast

import mcp_types as types
import pytest
import trio

from mcp_plugin.call import NO_ANSWER, FormAnswer, form_answer
from mcp_plugin.session import PERSON_SECONDS
from mcp_plugin.tools import invite, trust
from peer.protocol.errors import Forbidden
from peer.trust.invitation_address import SCHEME
from tests.mcp_plugin.hosts import READING, Chooser, Host, session
from tests.mcp_plugin.test_picker import bash, sent
from tests.system.world import Document, Person, World, connected

Pair = tuple[Person, Person]

# What a person does, how long they read, and whether every way is tried: each form is read for more than a second.
WITHOUT: list[Any] = [
    pytest.param(None, READING, True, id="no form"),
    pytest.param(lambda _m, _t: None, READING, True, id="closed"),
    pytest.param(lambda _m, titles: next(iter(titles)), 0.0, False, id="too fast"),
    pytest.param(lambda _m, _t: "refuse", READING, False, id="refused"),
    pytest.param(lambda _m, _t: "DECLINE", READING, False, id="declined"),
    pytest.param(lambda _m, _t: "something else", READING, False, id="nonsense"),
]
MODES = ("legacy", "2026-07-28")
ERAS = pytest.mark.parametrize("mode", [pytest.param("legacy", marks=pytest.mark.long), "2026-07-28"])
"""What is asked is the same in both; that an older host is asked at all, others show."""


def era(mode: str) -> dict[str, str]:
    return {"DISPATCH_MCP_ERA": "" if mode == "legacy" else "auto"}


def yes(_message: str, titles: dict[str, str]) -> str:
    return next(iter(titles))


async def no_word(host: Host, tool: str, **arguments: object) -> Document:
    """Try what needs a person's word; return the refusal."""
    error = await host.refused(tool, **arguments)
    assert error["code"] == 403, error
    return error


def known(person: Person) -> tuple[Any, ...]:
    """Everything about trust that a person's store holds."""
    return tuple(
        person.rows(query)
        for query in (
            "SELECT edge_id, status, scope FROM edges ORDER BY edge_id",
            "SELECT * FROM edge_rules",
            "SELECT token, status FROM invitations ORDER BY token",
        )
    )


@pytest.mark.parametrize(
    ("mode", "does", "reads", "every_way"),
    [
        # Of the older protocol, what differs each time; the rest is the same again.
        pytest.param(
            mode,
            *person.values,
            id=f"{person.id}-{mode}",
            marks=() if number < 1 or (mode != "legacy" and number < 2) else pytest.mark.long,
        )
        for number, person in enumerate(WITHOUT)
        for mode in MODES
    ],
)
async def test_a_hijacked_host_model_gets_nothing(
    world: World, pair: Pair, mode: str, does: Chooser | None, reads: float, every_way: bool
) -> None:
    few = None if every_way else 1
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"tools": "Read,Bash", "max_per_day": 700})
    invitation = bob.rows("SELECT token FROM invitations WHERE status = 'open' AND direction = 'received'")
    if not invitation:
        eve = world.person(f"eve{len(world.people)}")
        token = str(eve.client.invite(bob.email)["token"])
        eve.stop()
    else:
        ((token,),) = invitation
    dispatch_id = await sent(pair, bash("echo one"), bash("echo two"))
    async with session(bob, mode=mode, person_does=does, reads=reads, environment=era(mode)) as host:
        # An invitation: every way to say tools, also with flags of our own making.
        menu = await host.call("dispatch_invite", action="accept", token=token)
        assert menu.structured_content is not None
        assert "said no" in str(menu.structured_content.get("message") or "said no")
        before = known(bob)
        for tools in ("Read", ["Read", "Bash"])[:few]:
            error = await no_word(host, "dispatch_invite", action="accept", token=token, tools=tools)
            asked = shlex.join(["dispatch", "accept-invitation", token, "--tools"])
            assert asked in error["fix"] or "said no" in error["message"]
        for smuggled in ("confirm_unverified", "unconfirmed", "yes_unverified"):
            error = await host.refused(
                "dispatch_invite", action="accept", token=token, tools="Read", **{smuggled: False}
            )
            assert error["code"] == 422

        # A wider edge, in each way that an edge can be wider; several at once, one of them narrower.
        wider_ones: list[Document] = [
            {"tools": "Read,Write,Bash"},
            {"approval": "auto"},
            {"max_per_day": 800},
            {"paths": [str(bob.projects)]},
            {"tools": "Read", "approval": "auto"},
        ]
        for wider in wider_ones[:few]:
            error = await no_word(host, "dispatch_trust", action="edit", peer=alice.email, **wider)
            assert "trust edit" in error["fix"] or "said no" in error["message"]
        assert known(bob) == before

        # An always, and answers that nobody can have given.
        fake = await host.refused("dispatch_act", action="approve", dispatch_id=dispatch_id, request_id="1")
        assert fake["code"] == 409 and "nothing pending" in fake["message"]
        gate = await host.act("accept", dispatch_id)
        answer = {"dispatch_id": dispatch_id, "request_id": gate["request_id"]}
        for arguments in (
            {"action": "approve", **answer},
            {"action": "approve", **answer, "grant": "session"},
            {"action": "approve", **answer, "grant": "always"},
        ):
            fast = await host.refused("dispatch_act", **arguments)
            assert fast["code"] == 409 and "not accepted" in fast["message"], fast
        fast = await host.refused("dispatch_approve", **answer, decision="allow")
        assert "not accepted" in fast["message"]
        await trio.sleep(READING)
        for rule in (None, 2)[:few]:
            more = {} if rule is None else {"rule": rule}
            error = await no_word(host, "dispatch_act", action="approve", **answer, grant="always", **more)
            shown = f"dispatch approve {dispatch_id} {gate['request_id']} --always"
            assert shown in error["fix"] or "said no" in error["message"]
        await no_word(host, "dispatch_approve", **answer, decision="allow", grant="always")
        assert [row["request_id"] for row in bob.client.approvals()] == [gate["request_id"]], "it still waits"
        assert known(bob) == before

        # Every no needs nobody. What narrows does, here: the hooks of this host let an edit pass for the form's sake.
        assert (await host.act("deny", **answer))["status"] == "approval_needed"
        await host.ok("dispatch_act", action="cancel", dispatch_id=dispatch_id)
        await no_word(host, "dispatch_trust", action="edit", peer=alice.email, tools="Read", max_per_day=600)
        assert known(bob) == before


async def test_an_approval_of_what_another_session_was_shown_is_nobodys(pair: Pair) -> None:
    _, bob = pair
    dispatch_id = await sent(pair, bash("echo one"))
    await trio.to_thread.run_sync(bob.client.accept, dispatch_id)
    row = await trio.to_thread.run_sync(bob.approval_of, dispatch_id)
    answer = {"dispatch_id": dispatch_id, "request_id": row["request_id"]}
    async with session(bob) as host:
        error = await host.refused("dispatch_act", action="approve", **answer)
        assert "has not been shown" in error["message"] and 'action="watch"' in error["fix"]
        (shown,) = (await host.ok("dispatch_pending_approvals"))["approvals"]
        assert (
            shown["request_id"] == row["request_id"]
            and "not accepted" in (await host.refused("dispatch_approve", **answer, decision="allow"))["message"]
        )
        await trio.sleep(READING)
        assert (await host.ok("dispatch_approve", **answer, decision="allow"))["decision"] == "allowed"
        assert (await host.act("watch", dispatch_id))["status"] == "completed"


class Grants:
    """A call, and the node behind it, where `*` stands for one server more at each look."""

    session = SimpleNamespace(hooked=True)

    def __init__(self, answer: FormAnswer) -> None:
        self.answer = answer
        self.servers = ["notes"]
        self.granted: list[Any] = []

    async def client(self) -> Grants:
        return self

    async def ask(self, message: str, _options: object) -> FormAnswer:
        assert "MCP servers: notes\n" in message
        return self.answer

    async def accept_invitation(self, _token: str, scope: Document, **how: bool) -> Document:
        return self._asked(scope, **how)

    async def edit_trust(self, _peer: str, changes: Document, *, preview: bool = False, **how: bool) -> Document:
        return self._asked(changes, **how)

    def _asked(
        self, given: Document, *, unconfirmed: bool = False, confirm_unverified: bool = False, **_: object
    ) -> Document:
        if not unconfirmed:
            assert confirm_unverified
            self.granted.append(given)
        named = list(self.servers) if given["mcp_servers"] == "*" else given["mcp_servers"]
        self.servers.append(f"more{len(self.servers)}")
        scopes = {"tools": given["tools"], "mcp_servers": named, "paths": [], "approval": "manual", "apply": "review"}
        return {
            "status": "confirmation_required",
            "scopes": {**scopes, "max_per_day": 1, "results": "full"},
            "peer": "eve@example.org",
            "widens": ["tool Bash"],
            "powerful": ["Bash"],
            "fingerprint": "1234 5678",
            "standing": "",
        }


GRANT: Document = {"tools": ["Bash"], "mcp_servers": "*", "paths": []}


@pytest.mark.parametrize("grants", [invite._accept, trust._edit], ids=["an invitation", "an edge"])
async def test_what_is_granted_is_what_was_shown(grants: Any) -> None:
    """By name, since `*` may stand for more by then. Seen to fail, both, with the scope as it was given."""
    call = Grants(FormAnswer("chosen", "grant"))
    await grants(call, "eve@example.org", GRANT)
    assert [scope["mcp_servers"] for scope in call.granted] == [["notes"]]


async def test_the_secret_of_an_invitation_is_in_no_command() -> None:
    """Others on this machine can read a command line. Seen to fail with the address as it was given. What there is to
    compare is said with it."""
    call = Grants(NO_ANSWER)
    with pytest.raises(Forbidden) as caught:
        await invite._accept(cast(Any, call), f"{SCHEME}secret", GRANT)
    assert "accept-invitation - --tools Bash --mcp-servers notes" in caught.value.fix
    assert "secret" not in caught.value.fix and call.granted == []
    assert "their key is unverified; its fingerprint is 1234 5678" in caught.value.message


FORM = [("once", "Allow once"), ("deny", "Deny")]


@pytest.mark.parametrize(
    ("action", "content", "took", "counts"),
    [
        ("accept", {"answer": "once"}, PERSON_SECONDS, FormAnswer("chosen", "once")),
        ("accept", {"answer": "once"}, PERSON_SECONDS - 0.1, FormAnswer("too fast", "once")),
        ("accept", {"answer": "always"}, 60.0, NO_ANSWER),
        ("accept", {"answer": ["once"]}, 60.0, NO_ANSWER),
        ("accept", {"other": "once"}, 60.0, NO_ANSWER),
        ("accept", None, 60.0, NO_ANSWER),
        ("cancel", {"answer": "once"}, 60.0, NO_ANSWER),
        ("decline", {"answer": "once"}, 60.0, FormAnswer("declined")),
    ],
)
def test_an_answer_is_one_of_those_that_were_offered(
    action: Any, content: Any, took: float, counts: FormAnswer
) -> None:
    """Seen to fail where a form may be answered with what it did not offer."""
    result = types.ElicitResult.model_construct(action=action, content=content)
    assert form_answer(result, FORM, took=took) == counts
    assert form_answer(None, FORM, took=took) == NO_ANSWER


@pytest.mark.long
@ERAS
async def test_what_a_person_agrees_to_in_the_form_is_done(world: World, pair: Pair, mode: str) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"tools": "Read,Bash"})
    dispatch_id = await sent(pair, bash("echo one two"), bash("echo one three"))
    async with session(bob, mode=mode, person_does=yes, environment=era(mode)) as host:
        gate = await host.act("accept", dispatch_id)
        (number,) = [n for n, rule in enumerate(gate["rule_choices"]) if rule["pattern"] == "echo one"]
        await trio.sleep(READING)
        answer = {"request_id": gate["request_id"], "grant": "always", "rule": number}
        final = await host.act("approve", dispatch_id, **answer)
        assert final["status"] == "completed"
        ((message, titles),) = host.forms
        assert gate["rule_choices"][number]["text"] in message and alice.email in message
        assert list(titles) == ["grant", "refuse"]
        assert [rule["pattern"] for rule in bob.client.trust(alice.email)["rules"]] == ["echo one"]

        wide = await host.ok(
            "dispatch_trust", action="edit", peer=alice.email, tools="Read,Write,Bash", max_per_day=900
        )
        assert wide["scopes"]["tools"] == ["Read", "Write", "Bash"]
        assert "tool Write" in host.forms[1][0]
        assert "Bash(echo one), or with more words after it" in host.forms[1][0]

        carol = await trio.to_thread.run_sync(world.person, f"carol{mode[:2]}")
        invited = await trio.to_thread.run_sync(carol.client.invite, bob.email)
        granted = await host.ok("dispatch_invite", action="accept", token=invited["token"], tools="Read,Bash")
        assert granted["scopes"]["tools"] == ["Read", "Bash"]
        message = host.forms[2][0]
        assert carol.email in message and "UNVERIFIED" in message and "Bash" in message
        (row,) = [row for row in bob.client.contacts()["trust"] if row["peer"] == carol.email]
        assert row["fingerprint"] in message
        await trio.to_thread.run_sync(connected, carol, bob)
        carol.stop()


async def test_an_answer_counts_for_the_question_that_was_asked(pair: Pair) -> None:
    """In the newer protocol the host brings question and answer back; its word for the question counts for nothing."""
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"tools": "Read", "max_per_day": 700})
    async with session(bob, mode="2026-07-28", person_does=yes, environment=era("modern")) as host:
        ask = host.client.session.call_tool
        edit = {"action": "edit", "peer": alice.email, "max_per_day": 800}
        grant: dict[str, Any] = {"answer": {"action": "accept", "content": {"answer": "grant"}}}

        async def made(arguments: Document, state: str | None, *, brings: bool = True) -> Any:
            return await ask(
                "dispatch_trust",
                arguments,
                input_responses=grant if brings else None,
                request_state=state,
                allow_input_required=True,
            )

        question = await made(edit, None, brings=False)
        state = question.request_state
        await trio.sleep(READING)
        # Another call with this answer, an answer without a question, and one to a made-up question: asked anew.
        for arguments, token in ((edit | {"max_per_day": 900}, state), (edit, None), (edit, "made up"), (edit, state)):
            again = await made(arguments, token)
            assert again.result_type == "input_required", arguments
        assert bob.client.trust(alice.email)["scopes"]["max_per_day"] == 700
        question = await made(edit, None, brings=False)
        await trio.sleep(READING)
        done = await made(edit, question.request_state)
        assert done.structured_content["scopes"]["max_per_day"] == 800
