"""The whole story in two browsers by clicking, and what is said when it is too late. By keyboard: test_keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.page.browser import Tab
from tests.page.conftest import Opener
from tests.system.world import Person, World

Pair = tuple[Person, Person]
REPORT = "# Report\nThe last line has no newline.\n"
SCRIPT = (
    {"say": "I will look around first."},
    {"tool": "Bash", "input": {"command": "echo looking"}},
    {"tool": "Bash", "input": {"command": "echo again"}},
    {"tool": "Bash", "input": {"command": "rm -rf /"}},
    {"tool": "Write", "input": {"file_path": "out/report.md", "content": REPORT}},
    {"say": "The last line is dropped, because it has no newline."},
)


def test_by_clicking(world: World, new_tab: Opener, tmp_path: Path) -> None:
    carol, dave = world.people_named("carol", "dave")
    dave.will(*SCRIPT)
    hers, his = new_tab(carol), new_tab(dave)
    hers.open()
    his.open()

    # Carol asks, and gives Dave the link.
    hers.page.get_by_role("link", name="Invitations").click()
    hers.page.get_by_label("Their e-mail address").fill(dave.email)
    hers.page.get_by_role("button", name="Invite", exact=True).click()
    link = hers.page.locator(".done .copy").inner_text()

    # Dave looks at it: nothing is chosen, and nothing can be granted before something is.
    his.page.get_by_role("link", name="Invitations").click()
    his.page.get_by_label("The address or token of an invitation to you").fill(link)
    his.page.get_by_role("button", name="Open it").click()
    power = his.page.locator("fieldset.power")
    power.wait_for()
    assert power.locator("input:checked").count() == 0
    expect(his.page.get_by_role("button", name="Choose an answer first")).to_be_disabled()
    power.get_by_label("Look only").check()
    preview = his.page.get_by_role("region", name="What this would permit")
    expect(preview).to_contain_text("It cannot run programs.")
    power.get_by_label("Everything").check()
    expect(preview).to_contain_text("It may run any program inside the sandbox")
    expect(preview).to_contain_text("You are asked before every single step")
    his.page.get_by_role("button", name="Permit this").click()
    expect(his.page.locator(".toast")).to_contain_text("carol@example.org may now send you tasks.")

    # Carol sees it come into force, and writes to him, with a file chosen and one dropped.
    hers.page.locator("#nav").get_by_role("link", name="Contacts").click()
    expect(hers.page.locator(".people")).to_contain_text("You may send to them: Read, Glob, Grep, Write, Edit, Bash")
    hers.page.get_by_role("link", name="New dispatch").click()
    hers.page.get_by_label("To", exact=True).select_option(dave.email)
    hers.page.get_by_label("Task", exact=True).fill("Why does the parser drop the last line?\n<b>not bold</b>")
    (tmp_path / "input.txt").write_text("one\ntwo")
    hers.page.get_by_label("Files", exact=True).set_input_files(tmp_path / "input.txt")
    drop(hers.page, "dropped.csv", "a,b\n")
    expect(hers.page.get_by_role("button", name="Remove dropped.csv")).to_be_visible()
    expect(hers.page.get_by_role("button", name="Remove input.txt")).to_be_visible()
    hers.page.get_by_text("More: deliverable").click()
    hers.page.get_by_label("What is wanted back").fill("A report")
    hers.page.get_by_label("Links, one on each line").fill("https://example.org/parser")
    hers.page.get_by_label("Expires if not accepted within").select_option("4 hours")
    hers.page.get_by_role("button", name="Sign and send").click()
    expect(hers.page.get_by_role("heading", name="Why does the parser drop the last line?")).to_be_visible()
    expect(hers.page.locator(".facts")).to_contain_text("Waiting for their answer")
    assert not list(carol.state.uploads.iterdir()), "what was sent waits no more"

    # Dave reads it, saves a file, accepts, and answers each call.
    his.page.get_by_role("link", name=re.compile("^Inbox")).click()
    his.page.locator(".row").click()
    expect(his.page.locator("main")).to_contain_text("<b>not bold</b>")
    expect(his.page.locator(".links")).to_contain_text("https://example.org/parser")
    assert his.page.locator(".links a").count() == 0
    with his.page.expect_download() as saved:
        his.page.get_by_role("button", name="Save input.txt").click()
    assert saved.value.suggested_filename == "input.txt"
    assert Path(saved.value.path()).read_text() == "one\ntwo"
    his.page.get_by_role("button", name="Accept and run").click()
    answer(his, "echo looking", "Allow once")
    answer(his, "echo again", "Always allow", choose="Bash(echo), or with further words")
    kept = his.page.locator(".approval.over", has_text="Stored: Bash(echo), or with further words")
    expect(kept.get_by_role("button", name="Undo")).to_be_visible()
    answer(his, "rm -rf /", "Deny", note="not that", warns="deletes")
    card = his.page.locator(".approval:not(.over)")
    expect(card.get_by_role("heading", name="Write out/report.md")).to_be_visible()
    expect(card.locator("tr.added", has_text="# Report")).to_be_visible()
    expect(card).to_contain_text("step 4 of this run")
    expect(card).to_contain_text("What this returns goes to carol@example.org")
    answer(his, "out/report.md", "For this run")
    expect(his.page.get_by_role("heading", name="Result")).to_be_visible()

    # Carol followed it live, and has the result and the file.
    expect(hers.page.locator(".result")).to_contain_text("The last line is dropped, because it has no newline.")
    expect(hers.page.locator(".result")).to_contain_text(
        re.compile(r"no file changed · 1 call denied · .*Note: 1 call was denied and no file was changed")
    )
    expect(hers.page.locator(".trace")).to_contain_text("not that")
    with hers.page.expect_download() as returned:
        hers.page.get_by_role("button", name="Save report.md").click()
    assert Path(returned.value.path()).read_text() == REPORT

    # Dave looks at what he stored, removes it, narrows the edge, pauses, revokes.
    his.page.locator("#nav").get_by_role("link", name="Contacts").click()
    his.page.locator(".people .row").click()
    unasked = "Without asking, since you always allowed it: Bash(echo), or with more words after it."
    expect(his.page.locator(".permits").first).to_contain_text(unasked)
    his.page.get_by_role("button", name="Remove the rule Bash(echo), or with further words").click()
    expect(his.page.locator(".rules")).to_have_count(0)
    assert dave.client.trust(carol.email)["rules"] == []
    his.page.get_by_role("button", name="Change what is permitted").click()
    his.page.get_by_label("Look only").check()
    expect(his.page.get_by_role("region", name="What this would permit")).to_contain_text("It cannot run programs.")
    his.page.get_by_role("button", name="Save", exact=True).click()
    expect(his.page.locator(".permits").first).to_contain_text("It cannot change or create files there.")
    assert dave.client.trust(carol.email)["scopes"]["tools"] == ["Read", "Glob", "Grep"]
    his.page.get_by_role("button", name="Pause").click()
    expect(his.page.get_by_role("button", name="Resume")).to_be_visible()
    his.page.get_by_text("Fingerprint and safety number").click()
    number = his.page.get_by_label("Safety number")
    expect(number).to_have_text(re.compile(r"^(\d{5} ){11}\d{5}$"))
    hers.page.locator("#nav").get_by_role("link", name="Contacts").click()
    hers.page.locator(".people .row").click()
    hers.page.get_by_text("Fingerprint and safety number").click()
    expect(hers.page.get_by_label("Safety number")).to_have_text(number.inner_text())
    his.page.get_by_role("button", name="Revoke").click()
    his.page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(his.page.locator("main")).to_contain_text("This is revoked.")
    expect(hers.page.locator("main")).to_contain_text("No longer: revoked.")

    # Both find it again by a word of the answer.
    for each in (hers, his):
        each.page.get_by_role("link", name="History").click()
        each.page.get_by_label("Find in tasks, replies, people and ids").fill("newlin")
        expect(each.page.locator(".row mark").first).to_have_text("newline")
        each.page.get_by_label("Find in tasks, replies, people and ids").fill("nowhere")
        expect(each.page.locator("main")).to_contain_text("Nothing was found.")


def drop(page: Page, name: str, content: str) -> None:
    """Drop a file as the browser does: an event that carries it."""
    data = page.evaluate_handle(
        "([name, text]) => { const data = new DataTransfer(); data.items.add(new File([text], name)); return data; }",
        [name, content],
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": data})


def answer(tab: Tab, shows: str, button: str, *, choose: str = "", note: str = "", warns: str = "") -> None:
    """Answer the one card that waits."""
    card = tab.page.locator(".approval:not(.over)").filter(has_text=shows)
    card.wait_for()
    if warns:
        expect(card).to_contain_text(warns)
    if note:
        card.get_by_text("Deny with a note").click()
        card.get_by_label("Note with a denial").fill(note)
    card.get_by_role("button", name=button).click()
    if choose:
        card.get_by_label(choose).check()
        card.get_by_role("button", name="Store this rule").click()
    expect(card).to_have_count(0)


@pytest.mark.long
def test_what_was_decided_elsewhere_is_said(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    bob.will({"tool": "Bash", "input": {"command": "echo one"}}, {"tool": "Bash", "input": {"command": "echo two"}})
    sent = [alice.client.send(bob.email, f"Task {n}")["dispatch_id"] for n in range(3)]
    for each in sent:
        alice.state_of(each, "pending")
    one, two = new_tab(bob), new_tab(bob)
    for tab in (one, two):
        tab.open(sent[0])
        tab.page.get_by_role("button", name="Accept and run").wait_for()

    # A button that is pressed too late says so: the stream is held back, as on a slow machine.
    two.page.route("**/v1/page/stream*", lambda route: route.abort())
    two.page.reload()
    two.page.get_by_role("button", name="Accept and run").wait_for()
    one.page.get_by_role("button", name="Accept and run").click()
    one.page.locator(".approval").wait_for()
    two.page.get_by_role("button", name="Accept and run").click()
    expect(two.page.locator("main")).to_contain_text("There is nothing left to decide")
    expect(two.page.locator("main")).to_contain_text("It was already accepted, by you in another window")
    assert two.page.get_by_role("button", name="Accept and run").count() == 0

    two.page.unroute("**/v1/page/stream*")
    two.page.reload()
    for tab in (one, two):
        tab.page.locator(".approval[data-armed]").wait_for()
    one.page.get_by_role("button", name="Allow once").click()
    expect(two.page.locator(".approval.over")).to_contain_text("Already allowed once, by you in another window")
    for tab in (one, two):
        tab.page.locator(".approval[data-armed]:not(.over)").filter(has_text="echo two").wait_for()
    call = bob.client.approvals()[0]
    two.page.route("**/v1/page/stream*", lambda route: route.abort())
    two.page.reload()
    two.page.locator(".approval[data-armed]:not(.over)").wait_for()
    bob.cli("deny", sent[0], call["request_id"])
    two.page.get_by_role("button", name="Allow once").click()
    expect(two.page.locator(".approval.over")).to_contain_text("Already denied, by you in another window")
    bob.state_of(sent[0], "completed")

    # Declined by the command line while the form is open, cancelled by its sender meanwhile.
    one.open(sent[1])
    one.page.get_by_role("button", name="Accept and run").wait_for()
    bob.cli("decline", sent[1], "--reason", "no time")
    expect(one.page.locator(".ended")).to_contain_text("You declined it — no time")
    assert one.page.get_by_role("button", name="Accept and run").count() == 0
    one.open(sent[2])
    one.page.get_by_role("button", name="Accept and run").wait_for()
    alice.cli("cancel", sent[2])
    expect(one.page.locator(".ended")).to_contain_text("Cancelled")
    assert one.page.get_by_role("button", name="Accept and run").count() == 0


@pytest.mark.long
def test_several_runs_at_once_and_one_key_each(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    bob.will({"tool": "Bash", "input": {"command": "echo mine"}})
    sent = [alice.client.send(bob.email, f"Task {n}")["dispatch_id"] for n in range(3)]
    tab = new_tab(bob)
    tab.open()
    for each in sent:
        alice.state_of(each, "pending")
        bob.client.accept(each)
    tab.page.get_by_role("link", name="Waiting for you").click()
    expect(tab.page.locator(".approval:not(.over)")).to_have_count(3)
    expect(tab.page.locator('[data-count="approvals"]')).to_be_visible()
    expect(tab.page.locator(".approval.active")).to_have_count(1)
    tab.page.locator(".approval[data-armed]").nth(2).wait_for()
    tab.page.keyboard.press("1")
    expect(tab.page.locator(".approval:not(.over)")).to_have_count(2)
    tab.page.keyboard.press("5")
    expect(tab.page.locator(".approval:not(.over)")).to_have_count(1)
    tab.page.keyboard.press("9")
    tab.page.keyboard.press("4")
    expect(tab.page.locator(".approval:not(.over)")).to_have_count(0)
    ends = sorted(bob.state_of(each, "completed", "declined")["status"] for each in sent)
    assert ends == ["completed", "completed", "declined"]


def test_a_key_that_was_meant_for_something_else_is_no_answer(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    bob.will({"tool": "Bash", "input": {"command": "echo mine"}})
    dispatch_id = alice.client.send(bob.email, "Task")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    tab = new_tab(bob)
    tab.open(dispatch_id)
    bob.client.accept(dispatch_id)
    tab.page.locator(".approval").wait_for()
    tab.page.keyboard.press("1")  # faster than anybody reads
    tab.page.locator(".approval[data-armed]").wait_for()
    tab.page.get_by_text("Deny with a note").click()
    tab.page.get_by_label("Note with a denial").focus()
    tab.page.keyboard.type("12345")
    for chord in ("Control+1", "Alt+1"):
        tab.page.evaluate("document.activeElement.blur()")
        tab.page.keyboard.press(chord)
    (waiting,) = bob.client.approvals()
    assert waiting["dispatch_id"] == dispatch_id
    tab.page.keyboard.press("4")
    bob.state_of(dispatch_id, "completed")
    answered = [event for event in bob.client.dispatch(dispatch_id)["events"] if event["kind"] == "approval"]
    assert [(event["outcome"], event.get("note")) for event in answered] == [("denied", "12345")]


def test_an_unverified_inviter_is_asked_about_once_more(world: World, new_tab: Opener) -> None:
    grace, heidi = world.people_named("grace", "heidi")
    grace.client.invite(heidi.email)
    tab = new_tab(heidi)
    tab.open()
    tab.page.get_by_role("link", name=re.compile("^Invitations")).click()
    # By the broker alone: shown as it is.
    card = tab.page.locator("li.card")
    expect(card).to_contain_text("not verified")
    card.get_by_role("button", name="Choose what to permit").click()
    tab.page.get_by_label("Look and change").check()
    tab.page.get_by_role("button", name="Permit this").click()
    dialog = tab.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Compare the fingerprint with grace@example.org")
    dialog.get_by_role("button", name="Cancel").click()
    assert heidi.edge(grace, "incoming") is None
    tab.page.get_by_role("button", name="Permit this").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="I compared it: permit").click()
    expect(tab.page.locator(".toast").first).to_contain_text("may now send you tasks")
    edge = heidi.edge(grace, "incoming")
    assert edge is not None and edge["scopes"]["tools"] == ["Read", "Glob", "Grep", "Write", "Edit"]
