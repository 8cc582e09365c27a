"""What people do in a session, from the first word to what comes of it, with the SDK's client: send, invite, revoke."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.mcp_plugin.hosts import session
from tests.mcp_plugin.test_consent import ERAS, era, yes
from tests.system.world import Document, Person, World, connected, eventually

Pair = tuple[Person, Person]
SERVER = Path(__file__).parents[1] / "sandbox" / "mcp_server.py"


@ERAS
async def test_a_send_arrives_whole_and_its_result_comes_back(pair: Pair, mode: str) -> None:
    """Seen to fail with a send that left its links and pairs behind."""
    alice, bob = pair
    (alice.home / "receipts.csv").write_text("date,total\n2026-11-03,1990\n")
    bob.will({"tool": "Read", "input": {"file_path": "receipts.csv"}}, {"say": "It is 1990."})
    async with session(alice, mode=mode, environment=era(mode)) as host:
        sent = await host.ok(
            "dispatch_send",
            recipient=bob.email,
            task="What is the total?",
            files=["receipts.csv"],
            project="till",
            links=["https://example.org/till"],
            deliverable="A number",
            background="It is about Tuesday.",
            meta={"ticket": "T-17"},
            expires=600,
        )
        dispatch_id = sent["dispatch_id"]
        assert sent["status"] in ("queued", "pending")
        await trio.to_thread.run_sync(lambda: alice.state_of(dispatch_id, "pending"))
        async with session(bob, mode=mode, environment=era(mode)) as other:
            got = await other.ok("dispatch_read", what="status", dispatch_id=dispatch_id)
            texts = {name.removeprefix("untrusted_"): value for name, value in got.items()}
            assert (texts["task"], texts["project"], texts["deliverable"]) == (
                "What is the total?",
                "till",
                "A number",
            )
            assert (texts["links"], texts["meta"]) == (["https://example.org/till"], {"ticket": "T-17"})
            assert texts["background"] == "It is about Tuesday."
            (file,) = got["files"]
            assert (file["name"], file["size"]) == ("receipts.csv", 27)
            gate = await other.act("accept", dispatch_id)
            while gate["status"] == "approval_needed":
                gate = await other.act("deny", dispatch_id, request_id=gate["request_id"])
            assert gate["status"] == "completed"
        final = await host.act("watch", dispatch_id)
        assert (final["status"], final["receipt"]["state"]) == ("completed", "signed")
        assert (final["sender_id"], final["recipient_id"]) == (alice.email, bob.email)
        assert final["reply"] == "It is 1990."


@pytest.fixture
def notes(pair: Pair) -> Iterator[None]:
    """Bob has an MCP server of his own, and one that nobody can be granted."""
    _, bob = pair
    servers: Document = {
        "notes": {"command": sys.executable, "args": [str(SERVER), "say"]},
        "remote": {"type": "http", "url": "https://mcp.example.org"},
    }
    (bob.home / ".claude.json").write_text(json.dumps({"mcpServers": servers}))
    yield
    (bob.home / ".claude.json").unlink()


async def test_an_invitation_is_accepted_from_its_menu(world: World, pair: Pair, notes: None) -> None:
    """Seen to fail with a menu that leaves out the servers, and with one of four lines."""
    _, bob = pair
    erin = await trio.to_thread.run_sync(world.person, "erin")
    async with session(erin) as host:
        invited = await host.ok("dispatch_invite", action="send", to_email=bob.email)
    async with session(bob, person_does=yes) as host:
        granted = await host.ok("dispatch_invite", action="accept", token=invited["link"])
        ((message, choices),) = host.forms
        assert erin.email in message and "Choose what their agent may do here" in message
        assert [choice.partition(":")[0] for choice in choices.values()] == [
            "1. Read-only",
            "2. + Write, Edit",
            "3. All",
            "4. Custom",
            "5. Decline",
        ]
        assert "(notes)" in choices["3"]
        assert granted["scopes"]["tools"] == ["Read", "Glob", "Grep"] and granted["scopes"]["approval"] == "manual"
        await trio.to_thread.run_sync(connected, erin, bob)
        (row,) = (await host.ok("dispatch_trust", action="list", peer=erin.email))["trust"]
        assert row["scopes"]["tools"] == ["Read", "Glob", "Grep"]
    erin.stop()


async def test_a_revoked_edge_carries_nothing_more(pair: Pair) -> None:
    """A revoke needs nobody's word. Seen to fail with one that only listed the edge."""
    alice, bob = pair
    async with session(bob) as host, session(alice) as other:
        revoked = await host.ok("dispatch_trust", action="revoke", peer=alice.email)
        assert revoked["status"] == "revoked"
        rows = (await host.ok("dispatch_trust", action="list", peer=alice.email))["trust"]
        assert "active" not in [row["status"] for row in rows if row["direction"] == "incoming"]
        heard = lambda: (alice.edge(bob, "outgoing") or {})["status"] == "revoked"  # noqa: E731
        await trio.to_thread.run_sync(lambda: eventually(heard, what="word of it at the sender's"))
        refused = await other.refused("dispatch_send", recipient=bob.email, task="Once more")
        assert refused["code"] == 403 and "dispatch_invite" in refused["fix"]
