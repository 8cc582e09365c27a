"""A page that shows a dispatch while its events and files are removed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.page.conftest import Opener
from tests.system.world import Person

Pair = tuple[Person, Person]


@pytest.mark.long
def test_what_is_left_of_a_thinned_dispatch_is_said(pair: Pair, new_tab: Opener, tmp_path: Path) -> None:
    """The open page says so at once, and so does one that is opened later. Seen to fail without the sentence."""
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "auto"})
    bob.will(
        {"say": "I am looking at it"}, {"tool": "Bash", "input": {"command": "echo made > /dispatch/out/made.txt"}}
    )
    attached = tmp_path / "attached.bin"
    attached.write_bytes(os.urandom(1_500_000))
    dispatch_id = alice.client.send(bob.email, "Make a file", files=[str(attached)])["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    alice.state_of(dispatch_id, "completed")
    tab = new_tab(alice)
    tab.open(dispatch_id)
    for name in ("attached.bin", "made.txt"):
        expect(tab.page.get_by_role("button", name=f"Save {name}")).to_be_visible()
    happened = tab.page.get_by_role("list", name="What happened, in order")
    expect(happened).to_contain_text("I am looking at it")
    try:
        alice.cli("config", "set", "retention_mb", "1")
        for _ in range(2):
            said = tab.page.get_by_text("Its events and the content of its files were removed on")
            expect(said).to_contain_text("by this machine's retention rules; its task, its result and its receipt")
            assert tab.page.get_by_role("button", name="Save").count() == 0
            expect(tab.page.get_by_text(", removed")).to_have_count(2)
            expect(tab.page.get_by_role("heading", name="What came with it")).to_be_visible()
            tab = new_tab(alice)
            tab.open(dispatch_id)
        expect(tab.page.get_by_role("list", name="What happened, in order")).to_have_count(0)
    finally:
        alice.cli("config", "set", "retention_mb", "")
