"""What a session is told of a dispatch whose events and files were removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from tests.mcp_plugin.hosts import session
from tests.system.world import Person, eventually

Pair = tuple[Person, Person]


@pytest.mark.long
async def test_reading_and_following_a_thinned_dispatch(pair: Pair, tmp_path: Path) -> None:
    """Both end, say what was removed, and that the receipt is not complete. Seen to fail without each of these."""
    alice, bob = pair

    def thinned() -> str:
        bob.client.edit_trust(alice.email, {"approval": "auto"})
        bob.will({"say": "done"}, {"tool": "Bash", "input": {"command": "echo made > /dispatch/out/made.txt"}})
        attached = tmp_path / "attached.bin"
        attached.write_bytes(os.urandom(1_500_000))
        dispatch_id = str(alice.client.send(bob.email, "Make a file", files=[str(attached)])["dispatch_id"])
        alice.state_of(dispatch_id, "pending")
        bob.client.accept(dispatch_id)
        alice.state_of(dispatch_id, "completed")
        try:
            alice.cli("config", "set", "retention_mb", "1")
            eventually(lambda: alice.client.dispatch(dispatch_id)["removed"], what="it thinned")
        finally:
            alice.cli("config", "set", "retention_mb", "")
        return dispatch_id

    dispatch_id = await trio.to_thread.run_sync(thinned)
    async with session(alice) as host:
        read = await host.ok("dispatch_read", what="status", dispatch_id=dispatch_id)
        watched = await host.act("watch", dispatch_id)
    assert (read["untrusted_events"], read["status"]) == ([], "completed")
    assert (watched["status"], watched["reply"]) == ("completed", "done")
    for document, result in ((read, read["result"]), (watched, watched)):
        assert "removed on" in document["removed"] and "this machine's retention rules" in document["removed"]
        assert result["receipt"]["complete"] is False and "does not include them" in result["receipt"]["why"]
        assert [file["name"] for file in result["files"]] == ["made.txt"]
    assert "fetch" not in watched, "there is nothing to fetch"
