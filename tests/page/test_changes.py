"""What a run changed, on the page: looked at, put in place, taken back and thrown away, by the mouse."""

from __future__ import annotations

import os
import subprocess
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


def test_commits_are_shown_ticked_and_told_how_to_merge(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    folder = bob.projects / f"till-{os.urandom(4).hex()}"
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=Bob", "-c", "user.email=bob@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    bob.client.edit_trust(alice.email, {"approval": "auto", "apply": "review"}, confirm_unverified=True)
    rob = "git -c user.name=Rob -c user.email=rob@example.org"
    made = f"cd /project && echo new > till.py && {rob} add . && {rob} commit -q -m 'mend it' && echo done"
    bob.will({"tool": "Bash", "input": {"command": made}})
    identity = str(alice.client.send(bob.email, "Mend the till")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity, cwd=str(folder))
    bob.state_of(identity, "completed")
    card = opened(new_tab(bob), identity)
    row = card.locator("li").filter(has_text=".git/refs/heads")
    expect(row).to_contain_text("made by the run, 1 commit")
    expect(row).to_contain_text(f"Branch “main” becomes dispatch/{identity}/main.")
    expect(row).to_contain_text("Marked: commits are code")
    row.get_by_text(".git/refs/heads", exact=True).click()
    expect(row.locator(".diff")).to_contain_text("    mend it")
    expect(row.locator(".diff .added").filter(has_text="+new")).to_be_visible()
    card.get_by_role("checkbox", name="Choose .git/refs/heads").check()
    card.get_by_role("button", name="Put in place what is ticked").click()
    expect(card.get_by_role("status")).to_contain_text("1 change is in place.")
    expect(card.get_by_role("status")).to_contain_text(f"git -C {folder} merge dispatch/{identity}/main")
    listed = subprocess.run([*git, "for-each-ref"], check=True, capture_output=True, text=True).stdout
    assert f"refs/dispatch/{identity}/main" in listed
    card.get_by_role("button", name="Take back what was put in place last").click()
    expect(card.get_by_role("status")).to_contain_text("1 change was taken back.")
