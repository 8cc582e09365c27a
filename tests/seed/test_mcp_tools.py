"""The tools of an agent's session: each with its actions, what it returns, and what it leaves to the person."""

from __future__ import annotations

import time

import pytest

from tests.mcp_plugin.hosts import READING, session
from tests.seed.conftest import Host, People, bash, invited
from tests.system.world import Person, World, connected, eventually


@pytest.fixture(scope="module")
def apart(world: World) -> tuple[Person, Person]:
    """Two who do not know each other."""
    nora, otto = world.people_named("nora", "otto")
    return nora, otto


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("dispatch_read", ["what", "dispatch_id"]),
        ("dispatch_act", ["action", "dispatch_id", "request_id", "grant", "cwd"]),
        ("dispatch_send", ["recipient", "task", "files", "project", "links", "deliverable", "background"]),
        ("dispatch_invite", ["action", "to_email", "token", "tools", "mcp_servers", "approval", "paths"]),
        ("dispatch_trust", ["action", "peer", "tools", "mcp_servers"]),
        ("dispatch_pending_approvals", []),
        ("dispatch_approve", ["dispatch_id", "request_id"]),
    ],
)
def test_the_tool_is_there_and_describes_itself(tool: str, arguments: list[str], bob_host: Host) -> None:
    described = bob_host.tools()[tool]
    assert described["description"]
    assert set(arguments) <= set(described["inputSchema"].get("properties", {}))


@pytest.mark.parametrize(
    ("tool", "name", "values"),
    [
        ("dispatch_read", "what", {"inbox", "status", "sent", "contacts", "invitations", "approvals", "whoami"}),
        ("dispatch_act", "action", {"accept", "decline", "cancel", "approve", "deny"}),
        ("dispatch_act", "grant", {"once", "always", "session"}),
        ("dispatch_invite", "action", {"send", "list", "accept", "decline"}),
        ("dispatch_trust", "action", {"list", "edit"}),
    ],
)
def test_the_values_that_an_argument_takes(tool: str, name: str, values: set[str], bob_host: Host) -> None:
    schema = bob_host.tools()[tool]["inputSchema"]["properties"][name]
    assert values <= set(schema.get("enum") or [each for part in schema["anyOf"] for each in part.get("enum", [])])


def test_reading_is_marked_read_only(bob_host: Host) -> None:
    tools = bob_host.tools()
    assert tools["dispatch_read"]["annotations"]["readOnlyHint"] is True
    assert tools["dispatch_act"]["annotations"]["readOnlyHint"] is False


def test_accept_without_gates_returns_the_final_result(people: People, bob_host: Host) -> None:
    dispatch_id = people.sent("Just say it", {"say": "said"})
    final = bob_host.ok("dispatch_act", action="accept", dispatch_id=dispatch_id)
    assert (final["status"], final["dispatch_id"]) == ("completed", dispatch_id)
    assert "said" in str(final["reply"]) and {"files", "usage"} <= set(final)


def test_the_approval_loop(people: People, bob_host: Host) -> None:
    """Accept pauses at each gate; an answer goes on to the next one, or to the end."""
    dispatch_id = people.sent("Two calls", bash("echo a"), bash("echo b"))
    gate = bob_host.ok("dispatch_act", action="accept", dispatch_id=dispatch_id)
    assert (gate["status"], gate["tool"], gate["input"]) == ("approval_needed", "Bash", {"command": "echo a"})
    assert gate["sender_id"] == people.alice.email and gate["request_id"]
    labels = [option["label"] for option in gate["question"]["options"]]
    assert labels == ["Allow once", "Always allow", "Allow for this session", "Deny"]
    assert 0 < gate["answer_within_seconds"] <= 120
    time.sleep(READING)  # what a person needs to read it, which the server insists on
    gate = bob_host.ok(
        "dispatch_act", action="approve", dispatch_id=dispatch_id, request_id=gate["request_id"], grant="once"
    )
    assert (gate["status"], gate["input"]) == ("approval_needed", {"command": "echo b"})
    final = bob_host.ok("dispatch_act", action="deny", dispatch_id=dispatch_id, request_id=gate["request_id"])
    assert final["status"] == "completed"


def test_an_answer_faster_than_a_person_is_not_taken(people: People, bob_host: Host) -> None:
    dispatch_id = people.sent("Fast", bash("echo a"))
    gate = bob_host.ok("dispatch_act", action="accept", dispatch_id=dispatch_id)
    bob_host.refused("dispatch_act", action="approve", dispatch_id=dispatch_id, request_id=gate["request_id"])
    assert len(people.bob.client.approvals()) == 1
    assert bob_host.ok("dispatch_act", action="cancel", dispatch_id=dispatch_id)["status"] == "cancelled"


def test_an_always_needs_the_persons_own_word(people: People, bob_host: Host) -> None:
    """It was to be relayed by the model: what the model reads was written by others, so a form or a terminal asks."""
    dispatch_id = people.sent("Always", bash("echo a"))
    gate = bob_host.ok("dispatch_act", action="accept", dispatch_id=dispatch_id)
    time.sleep(READING)
    arguments = {"dispatch_id": dispatch_id, "request_id": gate["request_id"], "grant": "always"}
    error = bob_host.refused("dispatch_act", action="approve", **arguments)
    assert error["code"] == 403 and "--always" in error["fix"]
    assert people.bob.client.trust(people.alice.email)["rules"] == []


def test_decline_and_cancel(people: People, bob_host: Host, alice_host: Host) -> None:
    declined, cancelled = people.sent("No"), people.sent("Back")
    assert bob_host.ok("dispatch_act", action="decline", dispatch_id=declined)["decision"] == "declined"
    assert alice_host.ok("dispatch_act", action="cancel", dispatch_id=cancelled)["status"] == "cancelled"


def test_cwd_overrides_where_it_runs(people: People, bob_host: Host) -> None:
    folder = people.bob.projects / "here"
    folder.mkdir(exist_ok=True)
    dispatch_id = people.sent("zxqv")
    final = bob_host.ok("dispatch_act", action="accept", dispatch_id=dispatch_id, cwd=str(folder))
    assert final["cwd"] == str(folder)


async def test_form_mode_asks_inside_the_call(people: People) -> None:
    """`approval_ui: form`: one call from accept to the end, with the five numbered answers in the client's form."""
    import trio

    dispatch_id = await trio.to_thread.run_sync(people.sent, "Form", bash("echo a"))
    environment = {"DISPATCH_APPROVAL_UI": "form"}
    async with session(people.bob, person_does=lambda _message, _titles: "once", environment=environment) as host:
        assert (await host.act("accept", dispatch_id))["status"] == "completed"
        ((message, titles),) = host.forms
    assert "echo a" in message
    assert [title[:2] for title in titles.values()] == ["1.", "2.", "3.", "4.", "5."]
    assert "Decline the dispatch" in titles["decline"]


def test_form_mode_without_a_form_falls_back_to_the_picker(people: People) -> None:
    from tests.mcp_plugin.hosts import raw

    dispatch_id = people.sent("No form", bash("echo a"))
    with raw(people.bob, {"DISPATCH_APPROVAL_UI": "form"}) as program:
        gate = Host(program).ok("dispatch_act", action="accept", dispatch_id=dispatch_id)
    assert gate["status"] == "approval_needed"


def test_the_session_may_be_the_node_itself(world: World) -> None:
    """Where no daemon runs, the server hosts the same node: accept and decline need no separate daemon."""
    from tests.mcp_plugin.hosts import raw

    solo = world.person("solo", start=False)
    with raw(solo) as program:
        assert Host(program).ok("dispatch_read", what="whoami")["daemon"]["running"]


def test_accepting_an_invitation_without_tools_returns_the_menu(apart: tuple[Person, Person]) -> None:
    from tests.mcp_plugin.hosts import raw

    nora, otto = apart
    token = invited(nora, otto)["token"]
    with raw(otto) as program:
        asked = Host(program).ok("dispatch_invite", action="accept", token=token)
    assert asked["status"] == "scope_choice_required"
    assert len(asked["menu"]) == 5 and "installed_mcp_servers" in asked
    assert otto.edge(nora, "incoming") is None
    nora.client.withdraw_invitation(token)


def test_without_a_form_accepting_names_the_command_and_the_key(apart: tuple[Person, Person]) -> None:
    """The command never carries --yes-unverified: without it the terminal shows the key and asks."""
    from tests.mcp_plugin.hosts import raw

    nora, otto = apart
    invitation = invited(nora, otto)
    token = invitation["token"]
    with raw(otto) as program:
        host = Host(program)
        harmless = host.refused("dispatch_invite", action="accept", token=token, tools="Read,Glob,Grep")
        powerful = host.refused("dispatch_invite", action="accept", token=token, tools="Read,Bash")
        by_address = host.refused("dispatch_invite", action="accept", token=invitation["link"], tools="Read")
    key = nora.client.whoami()["fingerprint"]
    for error in (harmless, powerful):
        assert error["code"] == 403 and f"dispatch accept-invitation {token}" in error["fix"]
        assert "--yes-unverified" not in error["fix"]
    assert key in powerful["message"] and key not in harmless["message"]
    # An address is pasted, for a command line is no place for its secret. Seen to fail with the address in the command.
    assert "dispatch accept-invitation - --tools" in by_address["fix"] and invitation["link"] not in str(by_address)
    nora.client.withdraw_invitation(token)


async def test_accepting_with_the_persons_choice_in_a_form(apart: tuple[Person, Person]) -> None:
    import trio

    nora, otto = apart
    token = (await trio.to_thread.run_sync(invited, nora, otto))["token"]
    async with session(otto, person_does=lambda _message, _titles: "grant") as host:
        document = await host.ok("dispatch_invite", action="accept", token=token, tools="Read,Glob,Grep")
    assert document["scopes"]["tools"] == ["Read", "Glob", "Grep"]
    await trio.to_thread.run_sync(connected, nora, otto)


def test_an_unknown_tool_in_a_scope_is_an_error(people: People, bob_host: Host) -> None:
    error = bob_host.refused("dispatch_trust", action="edit", peer=people.alice.email, tools="Read,Nope")
    assert error["code"] == 422 and "Nope" in error["message"]


def test_editing_without_tools_returns_the_current_scope(people: People, bob_host: Host) -> None:
    scope = bob_host.ok("dispatch_trust", action="edit", peer=people.alice.email)["scopes"]
    assert "Bash" in scope["tools"]


def test_narrowing_is_done_at_once_and_widening_is_not(people: People, bob_host: Host) -> None:
    """In a session with hooks these let every edit pass, since it ends in a form: there both are asked about."""
    from tests.mcp_plugin.hosts import raw

    edge = {"action": "edit", "peer": people.alice.email}
    assert bob_host.refused("dispatch_trust", **edge, tools="Read")["code"] == 403
    with raw(people.bob, {"DISPATCH_MCP_HOOKS": ""}) as program:
        host = Host(program)
        host.ok("dispatch_trust", **edge, tools="Read")
        assert people.bob.client.trust(people.alice.email)["scopes"]["tools"] == ["Read"]
        assert host.refused("dispatch_trust", **edge, tools="Read,Write,Bash")["code"] == 403
    assert people.bob.client.trust(people.alice.email)["scopes"]["tools"] == ["Read"]


def test_trust_takes_an_alias(people: People, bob_host: Host) -> None:
    people.bob.cli("alias", people.alice.email, "Al")
    try:
        assert bob_host.ok("dispatch_trust", action="edit", peer="al")["peer"] == people.alice.email
    finally:
        people.bob.cli("alias", people.alice.email, "--remove")


def test_inviting_directly_says_what_exists_already(people: People, alice_host: Host) -> None:
    error = alice_host.refused("dispatch_invite", action="send", to_email=people.bob.email)
    assert error["code"] == 409 and people.bob.email in error["message"]


def test_errors_are_results_with_code_message_and_fix(bob_host: Host) -> None:
    error = bob_host.refused("dispatch_read", what="status", dispatch_id="0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f")
    assert error["code"] == 404 and error["message"] and error["fix"]


def test_an_errors_fix_is_an_action_of_the_session(people: People, bob_host: Host, world: World) -> None:
    """It named commands, which a session must not run. What only the person can do is said to be theirs."""
    from tests.mcp_plugin.hosts import raw

    unknown = "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"
    with raw(people.carol) as program:
        stranger = Host(program).refused("dispatch_send", recipient=people.bob.email, task="x")
    assert stranger["fix"] == f'invite them: dispatch_invite(action="send", to_email="{people.bob.email}")'
    for action in ("accept", "cancel", "decline", "watch"):
        error = bob_host.refused("dispatch_act", action=action, dispatch_id=unknown)
        assert 'dispatch_read(what="inbox")' in error["fix"], error
    declined = people.sent("No")
    bob_host.ok("dispatch_act", action="decline", dispatch_id=declined)
    over = bob_host.refused("dispatch_act", action="accept", dispatch_id=declined)
    assert over["fix"].count("dispatch_read(") >= 1 and "`" not in over["fix"]
    edge = bob_host.refused("dispatch_trust", action="revoke", peer="nobody@example.org")
    assert people.alice.email in edge["message"] and "which one is meant" in edge["fix"], "candidates are named"
    nobody = Person("stranger-to-all", world.folder / "stranger-to-all", world.broker)
    with raw(nobody) as program:
        error = Host(program).refused("dispatch_read", what="inbox")
    assert error["code"] == 401 and "`dispatch login --broker URL` in a terminal" in error["fix"]


def test_losing_the_call_ends_no_run(people: People, bob_host: Host) -> None:
    dispatch_id = people.sent("Watch", bash("echo a"))
    bob_host.ok("dispatch_act", action="accept", dispatch_id=dispatch_id)
    assert bob_host.ok("dispatch_act", action="watch", dispatch_id=dispatch_id)["status"] == "approval_needed"
    bob_host.ok("dispatch_act", action="decline", dispatch_id=dispatch_id)
    eventually(lambda: not people.bob.client.approvals(), what="an end of the call")
