"""The form: one call that asks at every gate, and falls back to the picker where nobody can be asked."""

from __future__ import annotations

import hashlib

import pytest
import trio

from tests.conftest import more
from tests.mcp_plugin.hosts import READING, session
from tests.mcp_plugin.test_picker import bash, sent
from tests.system.world import Person

Pair = tuple[Person, Person]
FORM = {"DISPATCH_APPROVAL_UI": "form"}
SPOOF = "echo a\nWhat this returns goes to nobody."


@pytest.mark.long
async def test_one_call_asks_at_sixteen_gates(pair: Pair) -> None:
    alice, bob = pair
    # The eighth answer covers the ninth call too, the last ends the run.
    commands = [
        SPOOF,
        *(f"echo {number}" for number in range(7)),
        "echo 6",
        *(f"printf {number}" for number in range(8)),
    ]
    dispatch_id = await sent(pair, *map(bash, commands))
    answers = iter(["once"] * 6 + ["deny", "session"] + ["once"] * 7 + ["decline"])
    async with session(bob, person_does=lambda _message, _titles: next(answers), environment=FORM) as host:
        final = await host.act("accept", dispatch_id)
        assert final["status"] == "declined"
        assert len(host.forms) == 16 and next(answers, None) is None
        message, titles = host.forms[0]
        assert list(titles) == ["once", "always", "session", "deny", "decline"]
        assert titles["always"] == "2. Always: store the rule Bash(echo a␊What this returns goes to nobody.)"
        assert "\n    command: echo a\n    What this returns goes to nobody.\n" in message
        assert message.endswith(f"What this returns goes to {alice.email}.")
        assert list(host.forms[1][1].values()) == [
            "1. Allow once",
            "2. Always: store the rule Bash(echo 0)",
            "3. Allow for this session: calls like it, until this run ends",
            "4. Deny",
            "5. Decline the dispatch: end the run",
        ]
    outcomes = [e["outcome"] for e in bob.client.dispatch(dispatch_id)["events"] if e["kind"] == "approval"]
    assert outcomes[:9] == ["allowed"] * 6 + ["denied"] + ["allowed"] * 2
    assert bob.client.trust(alice.email)["rules"] == []


async def test_always_in_the_form_stores_the_rule_that_it_names(pair: Pair) -> None:
    alice, bob = pair
    bob.configure(approval_ui="form")
    dispatch_id = await sent(pair, bash("echo one"), bash("echo one"))
    try:
        async with session(bob, person_does=lambda _message, _titles: "always") as host:
            assert (await host.act("accept", dispatch_id))["status"] == "completed"
            assert len(host.forms) == 1
    finally:
        bob.configure(approval_ui="picker")
    assert [rule["pattern"] for rule in bob.client.trust(alice.email)["rules"]] == ["echo one"]


@pytest.mark.parametrize("why", ["closed", *more("no form", "too fast", "newer protocol")])
async def test_where_nobody_can_be_asked_the_picker_is(pair: Pair, why: str) -> None:
    _, bob = pair
    command = "echo one"
    dispatch_id = await sent(pair, bash(command))
    mode, era = ("2026-07-28", {"DISPATCH_MCP_ERA": "auto"}) if why == "newer protocol" else ("legacy", {})
    async with session(
        bob,
        mode=mode,
        person_does=None if why == "no form" else lambda _message, _titles: None if why == "closed" else "once",
        reads=0.0 if why == "too fast" else READING,
        environment=FORM | era,
    ) as host:
        gate = await host.act("accept", dispatch_id)
        assert (gate["status"], gate["input"]) == ("approval_needed", {"command": command})
        assert ("too_fast" in gate) is (why == "too fast")
        assert len(host.forms) == (1 if why in ("closed", "too fast") else 0)
        await trio.sleep(READING)
        final = await host.act("deny", dispatch_id, request_id=gate["request_id"], reason="not now")
        assert final["status"] == "completed"
    (answer,) = [e for e in bob.client.dispatch(dispatch_id)["events"] if e["kind"] == "approval"]
    assert (answer["outcome"], answer["by"], answer["note"]) == ("denied", "person", "not now")


async def test_a_long_call_is_shown_by_its_ends_and_its_digest(pair: Pair) -> None:
    _, bob = pair
    command = "echo " + "x" * 7_000 + "; rm -rf /"
    dispatch_id = await sent(pair, bash(command))
    async with session(bob, person_does=lambda _message, _titles: "deny", environment=FORM) as host:
        assert (await host.act("accept", dispatch_id))["status"] == "completed"
    ((message, _),) = host.forms
    for part in ("command: echo xxx", "; rm -rf /", hashlib.sha256(command.encode()).hexdigest()):
        assert part in message
    assert len(message) < 3_000


@pytest.mark.parametrize("answer", [*more("deny", "DECLINE"), "decline"])
async def test_a_no_is_taken_however_fast_it_comes(pair: Pair, answer: str) -> None:
    _, bob = pair
    dispatch_id = await sent(pair, bash("echo one"))
    async with session(bob, person_does=lambda _m, _t: answer, reads=0.0, environment=FORM) as host:
        final = await host.act("accept", dispatch_id)
        assert final["status"] == ("declined" if answer == "decline" else "completed")
        assert len(host.forms) == 1
