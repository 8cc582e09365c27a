"""A held result on the page: read as it would be sent, sent without a part, or not at all."""

from __future__ import annotations

import os

import pytest
from playwright.sync_api import Locator, expect

from tests.page.browser import Tab
from tests.page.conftest import Opener
from tests.system.world import Person, eventually

Pair = tuple[Person, Person]


@pytest.fixture
def held(pair: Pair) -> str:
    alice, bob = pair
    folder = bob.projects / f"attic-{os.urandom(4).hex()}"
    folder.mkdir()
    bob.client.edit_trust(alice.email, {"approval": "review"}, confirm_unverified=True)
    bob.will(
        {"tool": "Bash", "input": {"command": "echo '<b>trunk</b>' > /dispatch/out/found.txt; echo looked"}},
        {"say": "There is <i>a trunk</i>."},
    )
    identity = str(alice.client.send(bob.email, "What is in the attic?")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity, cwd=str(folder))
    bob.state_of(identity, "held")
    return identity


def opened(tab: Tab, identity: str) -> Locator:
    tab.open(identity)
    return tab.page.get_by_role("region", name="Not sent yet")


def test_it_is_read_and_sent_without_a_part(pair: Pair, new_tab: Opener, held: str) -> None:
    alice, bob = pair
    tab = new_tab(bob)
    card = opened(tab, held)
    expect(card).to_contain_text("There is <i>a trunk</i>.")
    expect(card).to_contain_text("found.txt")
    card.get_by_text("as they would be sent").click()
    expect(card.locator(".trace")).to_contain_text("looked")
    card.get_by_role("checkbox", name="The files", exact=True).uncheck()
    expect(card.get_by_role("checkbox", name="The events")).to_be_disabled()
    expect(card.get_by_role("checkbox", name="The events")).not_to_be_checked()
    card.get_by_role("checkbox", name="The files", exact=True).check()
    expect(card.get_by_role("checkbox", name="The events")).to_be_enabled()
    card.get_by_role("button", name=f"Send it to {alice.email}").click()
    expect(tab.page.get_by_role("status").filter(has_text=f"Sent to {alice.email}.")).to_be_visible()
    expect(card).to_have_count(0)
    told = alice.state_of(held, "completed") and alice.client.dispatch(held)
    assert "trunk" in told["result"]["reply"] and [event["kind"] for event in told["events"]] == ["status"] * 2


@pytest.mark.long
def test_nothing_of_it_is_sent(pair: Pair, new_tab: Opener, held: str) -> None:
    alice, bob = pair
    tab = new_tab(bob)
    card = opened(tab, held)
    card.get_by_role("button", name="Send nothing of it").click()
    tab.page.get_by_role("button", name="Send nothing", exact=True).click()
    expect(tab.page.get_by_text("You declined it")).to_be_visible()
    eventually(lambda: alice.client.dispatch(held)["status"] == "declined", what="the word that it was declined")
    assert not alice.client.dispatch(held)["result"]["reply"]
