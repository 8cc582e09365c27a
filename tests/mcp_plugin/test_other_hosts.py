"""Hosts without the plugin's hooks, whose model's word is nobody's: they ask by forms, or say where to answer."""

from __future__ import annotations

import json

import mcp_types as types
import pytest
import trio

from mcp_plugin import session as session_module
from mcp_plugin import watching
from tests.mcp_plugin.hosts import Host, session
from tests.mcp_plugin.test_picker import bash, sent
from tests.system.world import Person, World

Pair = tuple[Person, Person]
BARE = {session_module.HOOKED: ""}


async def told_where(host: Host, command: str, **arguments: object) -> None:
    """Try what needs a yes: it is refused, with the command by which the person gives it."""
    error = await host.refused("dispatch_act", **arguments)
    assert (error["code"], command in error["fix"]) == (403, True), error


async def test_a_host_that_shows_no_forms_only_informs(pair: Pair) -> None:
    """The picker's way is for hosts with our hooks alone."""
    alice, bob = pair
    dispatch_id = await sent(pair, bash("echo one"))
    async with session(bob, environment=BARE) as host:
        await told_where(host, f"`dispatch accept {dispatch_id}`", action="accept", dispatch_id=dispatch_id)
        assert bob.client.dispatch(dispatch_id)["status"] == "pending"
        await trio.to_thread.run_sync(bob.client.accept, dispatch_id)
        gate = await host.act("watch", dispatch_id)
        request = gate["request_id"]
        assert gate["answer_at"] == {
            "terminal": [f"dispatch {word} {dispatch_id} {request}" for word in ("approve", "deny")],
            "page": "dispatch open",
        }
        assert "answer there and not here" in gate["next"] and "echo one" in gate["question"]["question"]
        await trio.sleep(session_module.PERSON_SECONDS)
        for more, words in (({}, ""), ({"grant": "session"}, " --session"), ({"grant": "always"}, " --always")):
            command = f"`dispatch approve {dispatch_id} {request}{words}`"
            await told_where(host, command, action="approve", dispatch_id=dispatch_id, request_id=request, **more)
        assert [row["request_id"] for row in bob.client.approvals()] == [request]
        narrower = await host.ok("dispatch_trust", action="edit", peer=alice.email, max_per_day=3)
        assert narrower["scopes"]["max_per_day"] == 3, "what narrows needs nobody"
        assert (await host.act("deny", dispatch_id, request_id=request))["status"] == "completed"


async def test_a_host_with_forms_asks_at_each_step(pair: Pair, world: World) -> None:
    """One form a decision: the dispatch, each of its calls, and an invitation with its whole menu."""
    _, bob = pair
    dispatch_id = await sent(pair, bash("echo one"), bash("echo two"))
    answers = iter(["1", "once", "once", "2", "1"])
    filled = {"approval": "review"}
    async with session(
        bob, person_does=lambda _message, _titles: next(answers), environment=BARE, fills_in=filled
    ) as host:
        assert (await host.act("accept", dispatch_id))["status"] == "completed"
        (accept, titles), *gates = host.forms
        assert "asks this machine to do:" in accept and titles["1"].startswith("1. Accept: run it in")
        assert ["echo one" in gates[0][0], "echo two" in gates[1][0], len(gates)] == [True, True, 2]
        second = await sent(pair, bash("echo one"))
        await host.act("accept", second)
        assert bob.client.dispatch(second)["status"] == "declined", "as the person chose"

        fay = await trio.to_thread.run_sync(world.person, "fay")
        token = (await trio.to_thread.run_sync(fay.client.invite, bob.email))["token"]
        granted = await host.ok("dispatch_invite", action="accept", token=token)
        scopes = granted["scopes"]
        assert (scopes["tools"], scopes["approval"], scopes["mcp_servers"]) == (["Read", "Glob", "Grep"], "review", [])
        message, titles = host.forms[-1]
        assert len(host.forms) == 5 and fay.email in message and "Fingerprint: " in message
        assert list(titles) == ["1", "2", "3", "4", "5"]
    fay.stop()


async def test_a_call_ends_before_a_host_ends_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `running` and how to go on; the next call hears what happened. And no host reads a result twice."""
    alice, bob = pair
    assert watching.CALL_SECONDS <= 45
    dispatch_id = await sent(pair, {"say": "thinking"}, bash("echo one"), task="x")
    async with session(alice, environment=BARE | {watching.SECONDS_VARIABLE: "0.5"}) as host:
        waits = await host.act("watch", dispatch_id)
        assert waits["status"] == "pending" and f'action="watch", dispatch_id="{dispatch_id}"' in waits["next"]
        await trio.to_thread.run_sync(bob.client.accept, dispatch_id)
        call = await trio.to_thread.run_sync(bob.approval_of, dispatch_id)
        runs = await host.act("watch", dispatch_id)
        assert runs["status"] == "running"
        await trio.to_thread.run_sync(bob.client.approve, dispatch_id, call["request_id"])
        await trio.to_thread.run_sync(alice.state_of, dispatch_id, "completed")
        assert (await host.act("watch", dispatch_id))["status"] == "completed"
    for name, twice in (("claude-code", False), ("codex-mcp-client", False), ("gemini-cli-mcp-client", True)):
        async with session(alice, environment=BARE, name=name) as host:
            result = await host.call("dispatch_read", what="status", dispatch_id=dispatch_id)
            (text,) = result.content
            assert isinstance(text, types.TextContent) and result.structured_content is not None
            assert (json.loads(text.text) == result.structured_content) if twice else len(text.text) < 80


@pytest.mark.long
async def test_a_large_input_is_shown_by_its_ends(pair: Pair) -> None:
    """A host's model that has to write 100 kB once more is not done before the call is denied."""
    _, bob = pair
    content = "".join(f"line {number}\n" for number in range(9_000))
    write = {"tool": "Write", "input": {"file_path": "/dispatch/out/large.txt", "content": content}}
    bob.client.edit_trust(pair[0].email, {"tools": "Read,Write,Bash"}, confirm_unverified=True)
    dispatch_id = await sent(pair, write)
    async with session(bob) as host:
        gate = await host.act("accept", dispatch_id)
        shown = gate["input"]["content"]
        for text in (shown, gate["question"]["question"]):
            assert "line 0\n" in text and "line 8999" in text and "SHA-256" in text and f"{len(content):,}" in text
        assert len(json.dumps(gate)) < 20_000 and len(gate["question"]["question"]) < 3_500
        await host.act("deny", dispatch_id, request_id=gate["request_id"])
