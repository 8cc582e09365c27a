"""Where an accepted dispatch runs, as a host gets it: a folder that is only suggested is the person's choice."""

from __future__ import annotations

import pytest
import trio

from tests.mcp_plugin.hosts import session
from tests.system.world import Document, Person

Pair = tuple[Person, Person]


async def test_nothing_runs_before_a_suggested_folder_was_chosen(pair: Pair) -> None:
    """On an edge without folders nothing is pinned: the agent would see no project at all, and nobody would know."""
    alice, bob = pair
    website = bob.projects / "website"
    (website / ".git").mkdir(parents=True, exist_ok=True)
    await trio.to_thread.run_sync(bob.cli, "config", "set", "roots", str(bob.projects))
    try:
        bob.will()
        found = [await trio.to_thread.run_sync(_sent, alice, bob) for _ in range(2)]
        async with session(bob) as host:
            for dispatch_id, cwd, runs_in in zip(found, (str(website), ""), (str(website), None), strict=True):
                asked = await host.act("accept", dispatch_id)
                assert asked["status"] == "folder_choice_required"
                labels = [option["label"] for option in asked["question"]["options"]]
                assert labels == ["Accept", "Accept in the suggested folder", "Decline", "Show details"]
                assert f"Suggested folder: {website}" in asked["question"]["question"]
                status = await host.ok("dispatch_read", what="status", dispatch_id=dispatch_id[-8:])
                assert (status["status"], status["question"]) == ("pending", asked["question"])
                final: Document = await host.act("accept", dispatch_id, cwd=cwd)
                assert (final["status"], final.get("cwd")) == ("completed", runs_in)
    finally:
        await trio.to_thread.run_sync(bob.cli, "config", "set", "roots", "")


@pytest.mark.long
async def test_a_folder_behind_a_link_is_named_before_anything_runs(pair: Pair) -> None:
    """The person said yes to the words with the link in them, so the folder behind it needs a yes of its own. Seen to
    fail with a daemon that follows links."""
    alice, bob = pair
    shop, link = bob.projects / "shop", bob.projects / "link"
    shop.mkdir(exist_ok=True)
    link.symlink_to(shop)
    try:
        bob.will()
        dispatch_id = await trio.to_thread.run_sync(_sent, alice, bob)
        async with session(bob) as host:
            refused = await host.refused("dispatch_act", action="accept", dispatch_id=dispatch_id, cwd=str(link))
            assert refused["code"] == 409 and str(shop) in refused["message"] and str(shop) in refused["fix"], refused
            status = await host.ok("dispatch_read", what="status", dispatch_id=dispatch_id)
            assert status["status"] == "pending"
            final: Document = await host.act("accept", dispatch_id, cwd=str(shop))
            assert (final["status"], final.get("cwd")) == ("completed", str(shop))
    finally:
        link.unlink()


@pytest.mark.long
async def test_what_will_not_work_in_a_folder_is_said_before_anything_runs(pair: Pair) -> None:
    """In a folder that the call names, and in one that the edge pins. Seen to fail where either is taken at once."""
    alice, bob = pair
    named, pinned = bob.projects / "named", bob.projects / "pinned/website"
    for folder in (named, pinned):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".git").write_text("gitdir: ../elsewhere/.git/worktrees/x\n")
    bob.will()
    found = [await trio.to_thread.run_sync(_sent, alice, bob) for _ in range(2)]
    async with session(bob) as host:
        asked = await host.act("accept", found[0], cwd=str(named))
        assert asked["status"] == "folder_choice_required"
        assert "In a run there, git will not work" in asked["question"]["question"]
        labels = [option["label"] for option in asked["question"]["options"]]
        assert labels == ["Accept anyway", "Decline", "Choose another folder"]
        assert (await host.ok("dispatch_read", what="status", dispatch_id=found[0]))["status"] == "pending"
        final: Document = await host.act("accept", found[0], cwd=str(named))
        assert (final["status"], final["cwd"]) == ("completed", str(named))
        await trio.to_thread.run_sync(lambda: bob.client.edit_trust(alice.email, {"paths": [str(pinned)]}))
        asked = await host.act("accept", found[1])
        assert asked["status"] == "folder_choice_required"
        assert f"Accept runs it in {pinned}." in asked["question"]["question"]
        assert "In a run there, git will not work" in asked["question"]["question"]
        final = await host.act("accept", found[1])
        assert (final["status"], final["cwd"]) == ("completed", str(pinned))
        assert (
            final["runs"].startswith("runs in ~/code/pinned/website")
            and f"{alice.email} gets the result" in final["runs"]
        )


def _sent(alice: Person, bob: Person) -> str:
    identity = str(alice.client.send(bob.email, "Look at the website", project="website")["dispatch_id"])
    alice.state_of(identity, "pending")
    return identity
