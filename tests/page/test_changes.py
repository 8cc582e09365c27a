"""What a run changed, on the page: looked at, put in place, taken back and thrown away, by the mouse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.page.browser import Tab
from tests.page.conftest import Opener
from tests.system.world import Person

Pair = tuple[Person, Person]


@pytest.fixture
def changed(pair: Pair) -> tuple[str, Path]:
    """A dispatch whose run has changed three things, and the folder."""
    alice, bob = pair
    folder = bob.projects / f"till-{os.urandom(4).hex()}"
    folder.mkdir()
    (folder / "till.py").write_text("old\n")
    bob.client.edit_trust(alice.email, {"approval": "auto", "apply": "review"}, confirm_unverified=True)
    bob.will(
        *(
            {"tool": "Write", "input": {"file_path": f"/project/{name}", "content": f"{name} is new\n"}}
            for name in ("till.py", "notes.md", "conftest.py")
        )
    )
    identity = str(alice.client.send(bob.email, "Mend the till")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity, cwd=str(folder))
    bob.state_of(identity, "completed")
    return identity, folder


def opened(tab: Tab, identity: str) -> Locator:
    tab.open(identity)
    return tab.page.get_by_role("region", name="Changes in your folders")


def test_changes_are_looked_at_put_in_place_and_taken_back(
    pair: Pair, new_tab: Opener, changed: tuple[str, Path]
) -> None:
    identity, folder = changed
    card = opened(new_tab(pair[1]), identity)
    expect(card).to_contain_text("3 changes wait for you")
    expect(card.locator("li").first).to_contain_text("conftest.py")
    expect(card.locator("li").first).to_contain_text("Marked:")
    card.get_by_text("till.py", exact=True).click()
    expect(card.locator(".diff .added").filter(has_text="till.py is new")).to_be_visible()
    expect(card.locator(".diff .removed").filter(has_text="old")).to_be_visible()
    card.get_by_role("button", name="Put in place all without a mark").click()
    expect(card.get_by_role("status")).to_have_text("2 changes are in place.")
    assert (folder / "till.py").read_text() == "till.py is new\n" and not (folder / "conftest.py").exists()
    card.get_by_role("button", name="Put in place what is ticked").click()
    expect(card.get_by_role("status")).to_have_text("Tick what is to be put in place.")
    card.get_by_role("checkbox", name="Choose conftest.py").check()
    card.get_by_role("button", name="Put in place what is ticked").click()
    expect(card.get_by_role("status")).to_have_text("1 change is in place.")
    expect(card).to_contain_text("3 changes are in place.")
    (folder / "notes.md").write_text("mine now\n")
    for said in ("1 change was taken back.", "1 change was taken back."):
        card.get_by_role("button", name="Take back what was put in place last").click()
        expect(card.get_by_role("status")).to_contain_text(said)
    expect(card.get_by_role("status")).to_contain_text("These stay as they are")
    assert (folder / "till.py").read_text() == "old\n" and (folder / "notes.md").read_text() == "mine now\n"


def test_a_conflict_keeps_all_of_it_back_and_the_rest_is_thrown_away(
    pair: Pair, new_tab: Opener, changed: tuple[str, Path]
) -> None:
    identity, folder = changed
    card = opened(new_tab(pair[1]), identity)
    expect(card).to_contain_text("3 changes wait for you")
    (folder / "till.py").write_text("mine\n")
    card.get_by_role("button", name="Put in place all without a mark").click()
    expect(card.get_by_role("status")).to_contain_text("Nothing was changed")
    expect(card.get_by_role("status")).to_contain_text("till.py")
    assert (folder / "till.py").read_text() == "mine\n" and not (folder / "notes.md").exists()
    card.get_by_role("button", name="Throw away what waits").click()
    card.page.get_by_role("dialog").get_by_role("button", name="Throw it away").click()
    expect(card.get_by_role("status")).to_have_text("Thrown away.")
    assert pair[1].client.dispatch(identity)["changes"][0]["state"] == "removed"


def test_a_list_says_that_changes_wait(pair: Pair, new_tab: Opener, changed: tuple[str, Path]) -> None:
    identity, _ = changed
    tab = new_tab(pair[1])
    tab.open()
    tab.go("/inbox")
    row = tab.page.locator(f'a.row[href="/dispatches/{identity}"]')
    expect(row).to_contain_text("changes wait for you")


def test_the_sender_reads_how_much_is_in_place_as_it_changes(
    pair: Pair, new_tab: Opener, changed: tuple[str, Path]
) -> None:
    alice, bob = pair
    identity, _ = changed
    tab = new_tab(alice)
    tab.open(identity)
    line = tab.page.locator(".landing")
    expect(line).to_have_text("Changes: none of 3 put in place yet.")
    bob.client.apply(identity, all=True)
    expect(line).to_have_text("Changes: 2 of 3 put in place.")
    tab.page.get_by_role("link", name="Sent", exact=True).first.click()
    row = tab.page.locator(f'a.row[href$="{identity}"]')
    expect(row).to_contain_text("changes: 2 of 3 put in place")
    bob.client.undo(identity)
    expect(row).to_contain_text("changes: none of 3 put in place yet")
