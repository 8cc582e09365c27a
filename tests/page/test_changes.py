"""What a run changed, on the page: looked at by mouse and keys, applied, undone and discarded."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Route, expect

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
            {"tool": "Write", "input": {"file_path": f"{name}", "content": f"{name} is new\n"}}
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
    tab = new_tab(pair[1])

    def with_a_network(route: Route) -> None:
        answer = route.fetch()
        used = [{"host": "code.example.org", "use": "1 connection, 17 bytes sent, 9 bytes received"}]
        route.fulfill(response=answer, json={**answer.json(), "network": used})

    tab.page.route("**/changes?*", with_a_network)
    card = opened(tab, identity)
    expect(card).to_contain_text("3 changes wait for you")
    expect(card).to_contain_text("Over the network: code.example.org: 1 connection, 17 bytes sent, 9 bytes received")
    expect(card.locator("li").first).to_contain_text("conftest.py")
    expect(card.locator("li").first).to_contain_text("Marked:")
    expect(card.locator(".diff .added").filter(has_text="till.py is new")).to_be_visible()
    expect(card.locator(".diff .removed").filter(has_text="old")).to_be_visible()
    card.get_by_role("button", name="Apply all without a mark").click()
    expect(card.get_by_role("status")).to_have_text("2 changes applied.")
    assert (folder / "till.py").read_text() == "till.py is new\n" and not (folder / "conftest.py").exists()
    card.get_by_role("button", name="Apply selected").click()
    expect(card.get_by_role("status")).to_have_text("Select the changes to apply.")
    card.get_by_role("checkbox", name="Choose conftest.py").check()
    card.get_by_role("button", name="Apply selected").click()
    expect(card.get_by_role("status")).to_have_text("1 change applied.")
    expect(card).to_contain_text("3 changes are applied.")
    (folder / "notes.md").write_text("mine now\n")
    for said in ("1 change undone.", "1 change undone."):
        card.get_by_role("button", name="Undo last apply").click()
        expect(card.get_by_role("status")).to_contain_text(said)
    expect(card.get_by_role("status")).to_contain_text("These stay as they are")
    assert (folder / "till.py").read_text() == "old\n" and (folder / "notes.md").read_text() == "mine now\n"


@pytest.mark.long
def test_a_conflict_keeps_all_of_it_back_and_the_rest_is_discarded(
    pair: Pair, new_tab: Opener, changed: tuple[str, Path]
) -> None:
    identity, folder = changed
    card = opened(new_tab(pair[1]), identity)
    expect(card).to_contain_text("3 changes wait for you")
    (folder / "till.py").write_text("mine\n")
    card.get_by_role("button", name="Apply all without a mark").click()
    expect(card.get_by_role("status")).to_contain_text("Nothing was changed")
    expect(card.get_by_role("status")).to_contain_text("till.py")
    assert (folder / "till.py").read_text() == "mine\n" and not (folder / "notes.md").exists()
    card.get_by_role("button", name="Discard waiting changes").click()
    card.page.get_by_role("dialog").get_by_role("button", name="Discard it").click()
    expect(card.get_by_role("status")).to_have_text("Discarded.")
    assert pair[1].client.dispatch(identity)["changes"][0]["state"] == "removed"


@pytest.mark.long
def test_a_list_says_that_changes_wait(pair: Pair, new_tab: Opener, changed: tuple[str, Path]) -> None:
    identity, _ = changed
    tab = new_tab(pair[1])
    tab.open()
    tab.go("/inbox")
    row = tab.page.locator(f'a.row[href="/dispatches/{identity}"]')
    expect(row).to_contain_text("wait for your review")


@pytest.mark.long
def test_the_sender_reads_how_much_is_in_place_as_it_changes(
    pair: Pair, new_tab: Opener, changed: tuple[str, Path]
) -> None:
    alice, bob = pair
    identity, _ = changed
    tab = new_tab(alice)
    tab.open(identity)
    line = tab.page.locator(".landing")
    expect(line).to_have_text("Changes: none of 3 applied yet.")
    bob.client.apply(identity, all=True)
    expect(line).to_have_text("Changes: 2 of 3 applied.")
    tab.page.get_by_role("link", name="Sent", exact=True).first.click()
    row = tab.page.locator(f'a.row[href$="{identity}"]')
    expect(row).to_contain_text("changes: 2 of 3 applied")
    bob.client.undo(identity)
    expect(row).to_contain_text("changes: none of 3 applied yet")


OLD = "".join(
    (
        '"""Adding up."""\n\nRATE = 10\n',
        *(f"def step_{number}(x):\n    return x + {number}\n\n\n" for number in range(20)),
        "def total(prices):\n    whole = sum(prices)\n    return whole\n",
    )
)
NEW = OLD.replace("RATE = 10", "RATE = 100  # per cent").replace("    return whole\n", "    return whole // RATE\n")
HOSTILE = (
    "first = 1\nsecond = 2  # \u202e\u2066 gnp.exe\n\x1b[31m<b>bold</b><img src=x onerror=alert(1)>\nlast = 3"
    + " " * 70
    + "!\n"
)


@pytest.fixture
def several(pair: Pair) -> str:
    """A dispatch whose run has changed files of several kinds."""
    alice, bob = pair
    folder = bob.projects / f"till-{os.urandom(4).hex()}"
    folder.mkdir()
    (folder / "till.py").write_text(OLD)
    bob.client.edit_trust(alice.email, {"approval": "auto", "apply": "review"}, confirm_unverified=True)
    files = {"till.py": NEW, "app.js": "const a = 1;\n", "evil.py": HOSTILE, "many.txt": "line\n" * 2_000}
    bob.will(*({"tool": "Write", "input": {"file_path": f"{name}", "content": text}} for name, text in files.items()))
    identity = str(alice.client.send(bob.email, "Mend the till")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity, cwd=str(folder))
    bob.state_of(identity, "completed")
    return identity


@pytest.mark.long
def test_a_diff_has_numbers_colours_words_and_folds(pair: Pair, new_tab: Opener, several: str) -> None:
    tab = new_tab(pair[1])
    card = opened(tab, several)
    expect(card).to_contain_text("+2,007 −2")
    table = card.get_by_role("table", name="What changes in till.py")
    expect(table.locator(".added .is-comment")).to_have_text("# per cent")
    assert "".join(table.locator(".added .differs").all_text_contents()) == "100  # per cent // RATE"
    assert "".join(table.locator(".removed .differs").all_text_contents()) == "10"
    expect(table.locator(".number.added")).to_have_text(["3", "86"])
    expect(table.get_by_text("step_10")).to_have_count(0)
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        assert tab.axe() == []
    fold = table.get_by_role("button", name="⋯ 76 unchanged lines")
    fold.click()
    expect(table.locator("td.code", has_text="def step_10(x):").first).to_be_visible()
    expect(table.locator(".place").nth(1)).to_be_focused()
    expect(card.locator("details[open]")).to_have_count(3)  # but for the long one
    card.get_by_role("button", name="Unfold all").click()
    expect(card.get_by_role("button", name="Show more of the 2,000 lines")).to_be_visible()
    card.get_by_role("button", name="Show more of the 2,000 lines").click()
    expect(card.get_by_role("table", name="What changes in many.txt").locator("tr.added")).to_have_count(2_000)
    card.get_by_role("button", name="Fold all", exact=True).click()
    expect(card.locator("details[open]")).to_have_count(0)


@pytest.mark.long
def test_two_columns_are_for_wide_screens_and_the_choice_is_remembered(
    pair: Pair, new_tab: Opener, several: str
) -> None:
    tab = new_tab(pair[1])
    card = opened(tab, several)
    table = card.get_by_role("table", name="What changes in till.py")
    switch = card.get_by_role("button", name="Side by side")
    expect(switch).to_have_attribute("aria-pressed", "true")
    rows = table.locator("tr", has_text="return whole // RATE")
    expect(rows.locator("td.code")).to_have_text(["    return whole", "    return whole // RATE"])
    expect(card.get_by_role("table", name="What changes in app.js").locator("tr.added")).to_have_count(1)
    switch.click()
    expect(switch).to_be_focused()
    expect(rows.locator("td.code")).to_have_text(["    return whole // RATE"])
    tab.page.reload()
    expect(switch).to_have_attribute("aria-pressed", "false")
    expect(rows.locator("td.code")).to_have_text(["    return whole // RATE"])
    switch.click()
    expect(rows.locator("td.code")).to_have_count(2)
    tab.page.set_viewport_size({"width": 360, "height": 800})
    expect(rows.locator("td.code")).to_have_count(1)
    expect(switch).to_have_count(0)
    assert tab.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.long
def test_keys_lead_from_file_to_file_and_from_change_to_change(pair: Pair, new_tab: Opener, several: str) -> None:
    tab = new_tab(pair[1])
    card = opened(tab, several)
    expect(card.locator("details[open]")).to_have_count(3)
    focus = tab.page.locator(":focus")
    names = [each.split()[0] for each in card.locator("summary").all_inner_texts()]
    assert names == ["evil.py", "app.js", "many.txt", "till.py"], "the marked one first"
    for key, name in (("j", 0), ("j", 1), ("j", 2), ("j", 3), ("j", 3), ("k", 2)):
        tab.page.keyboard.press(key)
        expect(focus).to_contain_text(names[name])
    table = card.get_by_role("table", name="What changes in till.py")
    for key, place in (("n", "many.txt"), ("n", "1 of 2"), ("n", "2 of 2"), ("n", "2 of 2"), ("p", "1 of 2")):
        tab.page.keyboard.press(key)
        if place == "many.txt":  # folded until now
            expect(card.get_by_role("table", name="What changes in many.txt").locator(".place:focus")).to_have_count(1)
        else:
            expect(table.locator(".place:focus")).to_contain_text(f"Change {place}")
    tab.page.keyboard.press("f")
    expect(focus).to_contain_text("till.py")
    expect(table).to_have_count(0)
    tab.page.keyboard.press("f")
    expect(table).to_be_visible()


def test_what_a_run_wrote_is_text_and_nothing_in_it_is_hidden(pair: Pair, new_tab: Opener, several: str) -> None:
    card = opened(new_tab(pair[1]), several)
    table = card.get_by_role("table", name="What changes in evil.py")
    expect(table.locator(".is-number").first).to_be_visible()
    expect(table.locator("td.code")).to_have_text(
        [
            "first = 1",
            "second = 2  # <U+202E><U+2066> gnp.exe",
            "␛[31m<b>bold</b><img src=x onerror=alert(1)>",
            "last = 3 ⟨70 blanks⟩ !",
        ]
    )
    assert table.locator("b, img, script, a").count() == 0
    assert [table.locator("tr.added").nth(n).locator(".is-number").count() for n in range(4)] == [1, 0, 0, 0]


@pytest.mark.long
def test_a_diff_does_not_wait_for_its_colours_and_believes_none_that_do_not_fit(
    pair: Pair, new_tab: Opener, several: str
) -> None:
    tab = new_tab(pair[1])
    shown: list[str] = []
    answers = [
        [[['x y" onload', 9]], [], [], [["comment", 40], ["string", 39]]],  # no kind of ours; blanks in two pieces
        [[["keyword", 8]]],  # shorter than the line
        [[["comment", 16]]],
    ]

    def answer(route: Route) -> None:
        shown.append(tab.page.locator("table.diff").first.inner_text())
        route.fulfill(json={"colours": {"language": "", "old": [], "new": answers[len(shown) - 1]}})

    tab.page.route("**/changes/*colours=1", answer)
    card = opened(tab, several)
    expect(card.get_by_role("table", name="What changes in till.py").locator(".is-comment")).to_have_count(2)  # columns
    assert card.locator("[class*=is-]").count() == 2
    expect(card.get_by_role("table", name="What changes in evil.py").locator("td.code").first).to_have_text("first = 1")
    assert "first = 1" in shown[0] and len(shown) == len(answers)


@pytest.mark.long
def test_what_cannot_be_taken_back_is_said_before_it_is_put_in_place(
    pair: Pair, new_tab: Opener, changed: tuple[str, Path]
) -> None:
    """The bound is 1 GiB: here the daemon's answers are made to name a path."""
    identity, folder = changed
    tab = new_tab(pair[1])
    card = opened(tab, identity)

    def answer(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "irreversible": ["till.py"]})

    tab.page.route("**/apply", answer)
    button = card.get_by_role("button", name="Apply all without a mark")
    button.click()
    dialog = tab.page.get_by_role("dialog", name="Some of it cannot be undone")
    expect(dialog).to_contain_text("“till.py”")
    dialog.get_by_role("button", name="Cancel").click()
    expect(card.get_by_role("status")).to_have_text("Nothing was changed.")
    assert (folder / "till.py").read_text() == "old\n"
    button.click()
    dialog.get_by_role("button", name="Apply it anyway").click()
    expect(card.get_by_role("status")).to_contain_text("These cannot be undone: “till.py”.")
    assert (folder / "till.py").read_text() == "till.py is new\n"


@pytest.mark.long
def test_commits_are_shown_ticked_and_told_how_to_merge(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    folder = bob.projects / f"till-{os.urandom(4).hex()}"
    folder.mkdir()
    git = ["git", "-C", str(folder), "-c", "user.name=Bob", "-c", "user.email=bob@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    bob.client.edit_trust(alice.email, {"approval": "auto", "apply": "review"}, confirm_unverified=True)
    rob = "git -c user.name=Rob -c user.email=rob@example.org"
    made = f"echo new > till.py && {rob} add . && {rob} commit -q -m 'mend it' && echo done"
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
    card.get_by_role("button", name="Unfold all").click()
    expect(row.locator(".diff")).to_contain_text("    mend it")
    expect(row.locator(".diff .added").filter(has_text="+new")).to_be_visible()
    card.get_by_role("checkbox", name="Choose .git/refs/heads").check()
    card.get_by_role("button", name="Apply selected").click()
    expect(card.get_by_role("status")).to_contain_text("1 change applied.")
    expect(card.get_by_role("status")).to_contain_text(f"git -C {folder} merge dispatch/{identity}/main")
    listed = subprocess.run([*git, "for-each-ref"], check=True, capture_output=True, text=True).stdout
    assert f"refs/dispatch/{identity}/main" in listed
    card.get_by_role("button", name="Undo last apply").click()
    expect(card.get_by_role("status")).to_contain_text("1 change undone.")
