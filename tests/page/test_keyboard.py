"""Everything by keyboard alone: what Tab does not reach, or no key presses, fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from tests.page.browser import Tab
from tests.page.conftest import Opener
from tests.system.world import Person, World

Pair = tuple[Person, Person]
REPORT = "# Report\nThe last line has no newline.\n"
SCRIPT = (
    {"tool": "Bash", "input": {"command": "echo looking"}},
    {"tool": "Bash", "input": {"command": "echo again"}},
    {"tool": "Write", "input": {"file_path": "out/report.md", "content": REPORT}},
    {"say": "The last line is dropped, because it has no newline."},
)


@pytest.mark.long
def test_by_keyboard_only(world: World, new_tab: Opener, tmp_path: Path) -> None:
    """Seen to fail with a file list whose buttons no key reached."""
    erin, frank = world.people_named("erin", "frank")
    frank.will(*SCRIPT)
    hers, his = new_tab(erin), new_tab(frank)
    hers.open()
    his.open()
    press(hers, "link", "Invitations")
    to(hers, "textbox", "Their e-mail address")
    hers.page.keyboard.type(frank.email)
    hers.page.keyboard.press("Enter")
    link = hers.page.locator(".done .copy").inner_text()

    press(his, "link", "Invitations")
    to(his, "textbox", "The address or token of an invitation to you")
    his.page.keyboard.insert_text(link)
    his.page.keyboard.press("Enter")
    his.page.locator("fieldset.power").wait_for()
    to(his, "radio", "Look only")
    assert his.page.locator("fieldset.power input:checked").count() == 0
    his.page.keyboard.press("Space")
    for _ in range(2):
        his.page.keyboard.press("ArrowDown")
    expect(his.page.locator("fieldset.power").get_by_label("Everything")).to_be_checked()
    press(his, "button", "Permit this")

    expect(his.page.locator(".toast")).to_contain_text("may now send you tasks")
    press(hers, "link", "New dispatch")
    hers.page.locator(f"#to option[value='{frank.email}']").wait_for(state="attached")
    to(hers, "combobox", "To")
    hers.page.keyboard.type("frank")
    to(hers, "textbox", "Task")
    hers.page.keyboard.type("Look at it")
    (tmp_path / "input.txt").write_text("one\ntwo")
    hers.page.on("filechooser", lambda _: None)  # the browser is told in time that nobody is there to choose
    to(hers, "textbox", "Files")
    with hers.page.expect_file_chooser() as chooser:
        hers.page.keyboard.press("Enter")
    chooser.value.set_files(tmp_path / "input.txt")
    hers.page.get_by_role("button", name="Remove input.txt").wait_for()
    press(hers, "button", "Sign and send")
    hers.page.get_by_role("heading", name="Look at it").wait_for()

    press(his, "link", "Inbox")
    his.page.locator(".row").wait_for()
    press(his, "link", "Look at it")
    his.page.get_by_role("button", name="Accept and run").wait_for()
    with his.page.expect_download() as saved:
        press(his, "button", "Save input.txt")
    assert Path(saved.value.path()).read_text() == "one\ntwo"
    press(his, "button", "Accept and run")
    for key, shows in (("1", "echo looking"), ("4", "echo again"), ("3", "out/report.md")):
        card = his.page.locator(".approval:not(.over)").filter(has_text=shows)
        card.wait_for()
        his.page.locator(".approval[data-armed]:not(.over)").filter(has_text=shows).wait_for()
        his.page.keyboard.press(key)
        expect(card).to_have_count(0)
    his.page.get_by_role("heading", name="Result").wait_for()
    trace = frank.client.dispatch(his.page.url.rpartition("/")[2])["events"]
    answered = [(event["outcome"], event.get("grant")) for event in trace if event["kind"] == "approval"]
    assert answered == [("allowed", "once"), ("denied", None), ("allowed", "session")]

    # The way back to the content is one key from the top.
    his.page.reload()
    his.page.get_by_role("heading", name="Result").wait_for()
    his.page.keyboard.press("Tab")
    expect(his.page.locator(":focus")).to_have_text("Skip to the content")
    with hers.page.expect_download() as returned:
        press(hers, "button", "Save report.md")
    assert Path(returned.value.path()).read_text() == REPORT


FOCUS = """() => {
  const at = document.activeElement;
  const label = at.getAttribute("aria-label") || [...(at.labels ?? [])].map((each) => each.textContent).join(" ")
    || at.textContent;
  const roles = {A: "link", BUTTON: "button", SELECT: "combobox", TEXTAREA: "textbox", SUMMARY: "summary"};
  const inputs = {radio: "radio", checkbox: "checkbox"};
  const role = at.tagName === "INPUT" ? inputs[at.type] ?? "textbox" : roles[at.tagName];
  return [role ?? "", label.trim()];
}"""


def to(tab: Tab, role: str, name: str) -> None:
    """Press Tab until the focus is there: whatever cannot be reached so fails."""
    seen = []
    for _ in range(120):
        found, label = tab.page.evaluate(FOCUS)
        if found == role and label.startswith(name):
            return
        seen.append((found, label[:30]))
        tab.page.keyboard.press("Tab")
    raise AssertionError(f"no {role} {name!r} by Tab alone, but {seen}")


def press(tab: Tab, role: str, name: str) -> None:
    """Go there by Tab and press Enter."""
    to(tab, role, name)
    tab.page.keyboard.press("Enter")


def card(tab: Tab, shows: str) -> Locator:
    """Return the card of a call that waits, once it takes answers."""
    found = tab.page.locator(".approval:not(.over)").filter(has_text=shows)
    tab.page.locator(".approval[data-armed]:not(.over)").filter(has_text=shows).wait_for()
    return found


@pytest.mark.long
def test_always_a_note_with_a_denial_and_declining(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with keys that answer while a rule is chosen taken away, and with a note that no key reached."""
    alice, bob = pair
    bob.will(*SCRIPT)
    tab = new_tab(bob)
    sent = [alice.client.send(bob.email, f"By keys {n}")["dispatch_id"] for n in range(2)]
    for each in sent:
        alice.state_of(each, "pending")
    tab.open(sent[0])
    tab.page.get_by_role("button", name="Accept and run").wait_for()
    press(tab, "button", "Accept and run")
    first = card(tab, "echo looking")
    tab.page.keyboard.press("2")  # shows the rules, and stores none
    expect(first.get_by_label("Bash(echo looking)", exact=True)).to_be_focused()
    tab.page.keyboard.press("2")  # faster than anybody reads
    tab.page.keyboard.press("Escape")
    expect(first.locator(".choosing")).to_be_hidden()
    assert bob.client.trust(alice.email)["rules"] == []
    card(tab, "echo looking")
    tab.page.keyboard.press("2")
    for _ in range(2):
        tab.page.keyboard.press("ArrowDown")
    expect(first.get_by_label("Bash(echo), or with further words")).to_be_checked()
    card(tab, "echo looking")
    tab.page.keyboard.press("2")
    expect(first).to_have_count(0)
    (rule,) = bob.client.trust(alice.email)["rules"]
    assert (rule["pattern"], rule["reach"]) == ("echo", "prefix"), "the one that was chosen"
    press(tab, "button", "Undo")
    expect(tab.page.locator(".approval.over").first).to_contain_text("The rule is removed.")
    assert bob.client.trust(alice.email)["rules"] == []

    again = card(tab, "out/report.md")  # between them a call that the rule covers
    press(tab, "summary", "Deny with a note")
    to(tab, "textbox", "Note with a denial")
    tab.page.keyboard.type("4 is no answer here")
    press(tab, "button", "4Deny")
    expect(again).to_have_count(0)
    bob.state_of(sent[0], "completed")
    events = [event for event in bob.client.dispatch(sent[0])["events"] if event["kind"] == "approval"]
    assert [(each["outcome"], each.get("note")) for each in events][-1] == ("denied", "4 is no answer here")

    tab.page.keyboard.press("Home")
    press(tab, "link", "Inbox")
    tab.page.locator(".row", has_text="By keys 1").wait_for()
    tab.page.reload()
    tab.page.locator(".row", has_text="By keys 1").wait_for()
    press(tab, "link", "By keys 1")
    tab.page.get_by_text("Decline instead").wait_for()
    press(tab, "summary", "Decline instead")
    to(tab, "textbox", "A note to them")
    tab.page.keyboard.type("no time")
    press(tab, "button", "Decline")
    expect(tab.page.locator(".ended")).to_have_text("You declined it — no time")
    alice.state_of(sent[1], "declined")


@pytest.mark.long
def test_an_edge_is_looked_after(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a safety number that no key reached, and with a rule that is removed by the pointer alone."""
    alice, bob = pair
    bob.will(SCRIPT[0])
    dispatch_id = alice.client.send(bob.email, "Look")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    bob.client.approve(dispatch_id, bob.approval_of(dispatch_id)["request_id"], grant="always")
    bob.state_of(dispatch_id, "completed")
    tab = new_tab(bob)
    tab.open()
    press(tab, "link", "Contacts")
    tab.page.locator(".people .row").wait_for()
    press(tab, "link", alice.email)
    tab.page.locator(".rules").wait_for()

    press(tab, "button", "Remove the rule Bash(echo looking)")
    expect(tab.page.locator(".rules")).to_have_count(0)
    assert bob.client.trust(alice.email)["rules"] == []

    press(tab, "button", "Change what is permitted")
    tab.page.locator("fieldset.power").wait_for()
    expect(tab.page.locator(":focus")).to_have_attribute("name", "power")
    to(tab, "radio", "Everything")
    for _ in range(2):
        tab.page.keyboard.press("ArrowUp")
    expect(tab.page.get_by_label("Look only")).to_be_checked()
    press(tab, "button", "Save")
    expect(tab.page.locator(".toast")).to_contain_text("Saved")
    expect(tab.page.locator("form.editor")).to_have_count(0)
    assert bob.client.trust(alice.email)["scopes"]["tools"] == ["Read", "Glob", "Grep"]

    press(tab, "button", "Pause")
    tab.page.get_by_role("button", name="Resume").wait_for()
    press(tab, "button", "Resume")
    tab.page.get_by_role("button", name="Pause").wait_for()

    press(tab, "summary", "Fingerprint and safety number")
    expect(tab.page.get_by_label("Safety number")).to_have_text(re.compile(r"^(\d{5} ){11}\d{5}$"))

    press(tab, "button", "Revoke")
    tab.page.get_by_role("dialog").wait_for()
    tab.page.keyboard.press("Escape")
    expect(tab.page.get_by_role("dialog")).to_have_count(0)
    expect(tab.page.locator(":focus")).to_have_text("Revoke")  # where it was
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("dialog").wait_for()
    press(tab, "button", "Revoke")
    expect(tab.page.locator("main")).to_contain_text("This is revoked.")
    edge = bob.edge(alice, "incoming")
    assert edge is not None and edge["status"] == "revoked"


ASKING = """
Object.defineProperty(Notification, "permission", { get: () => "default" });
Notification.requestPermission = () => new Promise(() => {});
"""
"""Plays a browser whose question, whether the page may notify, nobody answers."""


def test_finding_something_and_health(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a check box that loses the focus when it is ticked, and with buttons that stay off while the
    browser asks whether it may."""
    alice, bob = pair
    dispatch_id = alice.client.send(bob.email, "An uncommon quokka")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    tab = new_tab(bob)
    tab.page.add_init_script(ASKING)
    tab.open()
    tab.page.locator(".row").first.wait_for()
    tab.page.keyboard.press("/")  # from any view
    tab.page.keyboard.type(dispatch_id[:13])
    expect(tab.page.locator("main h1")).to_contain_text("Found for")
    expect(tab.page.locator("ol .row .text").first).to_have_text("An uncommon quokka")
    tab.page.keyboard.press("Escape")
    expect(tab.page.get_by_role("heading", name="Inbox", exact=True)).to_be_visible()
    tab.page.keyboard.press("?")
    press(tab, "button", "Close")
    tab.page.keyboard.press("g")
    tab.page.keyboard.press("h")
    expect(tab.page.get_by_role("heading", name="History")).to_be_visible()
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("alice")
    expect(tab.page.locator(".found-people .row")).to_contain_text(alice.email)
    tab.page.keyboard.press("Control+a")
    tab.page.keyboard.type("quok")
    expect(tab.page.locator(".row mark").first).to_have_text("quokka")
    press(tab, "link", "An uncommon quokka")
    expect(tab.page.locator("main")).to_contain_text("An uncommon quokka")

    press(tab, "link", "Health")
    tab.page.locator(".checks").wait_for()
    again = tab.page.get_by_role("button", name="Check again")
    expect(again).to_be_enabled()
    press(tab, "button", "Check again")
    expect(again).to_be_enabled()
    press(tab, "link", "Settings")
    to(tab, "checkbox", "Desktop notifications")
    for wanted in ("off", "on"):
        # The box shows what is wanted before the daemon has it.
        with tab.page.expect_response(lambda each: "/v1/page/settings" in each.url and each.request.method == "PATCH"):
            tab.page.keyboard.press("Space")
        setting = tab.page.get_by_role("checkbox", name="Desktop notifications")
        expect(setting).to_be_checked(checked=wanted == "on")
        expect(setting).to_be_focused()
        assert bob.cli("config", "get", "notifications", "--json").json["value"] == wanted
    press(tab, "button", "Sign out")
    expect(tab.page.get_by_role("heading", name="Sign in")).to_be_visible()


@pytest.mark.long
def test_arrows_move_in_lists(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a list that takes no keys. Also where the next row is not drawn yet, and not past the ends."""
    alice, bob = pair
    for number in range(60):
        alice.client.send(bob.email, f"Row {number}.")
    last = alice.client.send(bob.email, "The newest")["dispatch_id"]
    alice.state_of(last, "pending")
    tab = new_tab(bob)
    tab.open()
    expect(tab.page.locator(".waiting .row")).to_have_count(20)
    press_to_first_row(tab)
    focus = tab.page.locator("li:has(:focus)")
    first = focus.inner_text()
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("ArrowUp")
    assert focus.inner_text() == first
    tab.page.get_by_role("button", name="Needs a decision").click()
    expect(tab.page.locator("ol .row").first).to_contain_text("The newest")
    press_to_first_row(tab)
    expect(focus).to_have_attribute("aria-posinset", "1")
    tab.page.keyboard.press("ArrowUp")
    expect(focus).to_have_attribute("aria-posinset", "1")
    for place in range(2, 45):
        tab.page.keyboard.press("ArrowDown")
        expect(focus).to_have_attribute("aria-posinset", str(place))
        expect(focus).to_be_in_viewport()
    tab.page.keyboard.press("ArrowUp")
    expect(focus).to_have_attribute("aria-posinset", "43")
    words = focus.locator(".text").inner_text()
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator(".asked-for")).to_contain_text(words)


def press_to_first_row(tab: Tab) -> None:
    """Go by Tab to the first row."""
    for _ in range(40):
        tab.page.keyboard.press("Tab")
        if tab.page.evaluate("document.activeElement.classList.contains('row')"):
            return
    raise AssertionError("no row by Tab alone")
