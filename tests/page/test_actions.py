"""What can be pressed on the page, one after the other, with what it does at both ends. The whole story: test_story."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.page.browser import Tab
from tests.page.conftest import Opener
from tests.system.world import Person, Program, World

Pair = tuple[Person, Person]


def confirm(tab: Tab, button: str) -> None:
    """Press a button of the dialog that asks once more."""
    tab.page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()


@pytest.mark.long
def test_declining_with_a_note(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a page that leaves the note away."""
    alice, bob = pair
    dispatch_id = alice.client.send(bob.email, "Rewrite it all")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    hers, his = new_tab(alice), new_tab(bob)
    hers.open(dispatch_id)
    his.open(dispatch_id)
    his.page.get_by_text("Decline instead").click()
    his.page.get_by_label("A note to them").fill("not before Monday")
    his.page.get_by_role("button", name="Decline", exact=True).click()
    expect(his.page.locator(".ended")).to_have_text("You declined it — not before Monday")
    assert his.page.locator("form.decide").count() == 0
    expect(hers.page.locator(".ended")).to_have_text(f"{bob.email} declined it — “not before Monday”")
    assert alice.client.dispatch(dispatch_id)["status"] == "declined"


def test_a_network_is_granted_by_name_and_what_it_means_is_said(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"tools": "Bash"}, confirm_unverified=True)
    his = new_tab(bob)
    his.open()
    his.page.locator("#nav").get_by_role("link", name="Contacts").click()
    his.page.locator(".people .row").click()
    expect(his.page.locator(".permits").first).to_contain_text("any program inside the sandbox, without network")
    his.page.get_by_role("button", name="Change what is permitted").click()
    his.page.get_by_text("Limits, expiry, and what they are told").click()
    his.page.get_by_label("What its programs may reach").fill("Code.example.org\ngit.example.org:8443")
    his.page.get_by_label("Megabytes over the network").fill("5")
    told = his.page.get_by_role("region", name="What this would permit")
    expect(told).to_contain_text("Its commands can reach code.example.org, git.example.org:8443 over HTTPS.")
    his.page.get_by_role("button", name="Save", exact=True).click()
    expect(his.page.locator(".permits").first).to_contain_text("They can send there whatever the run can read")
    edge = bob.client.trust(alice.email)
    assert edge["scopes"]["network"] == ["code.example.org", "git.example.org:8443"]
    assert edge["budgets"]["network_bytes"] == 5 * 1024 * 1024
    # With an HTTP proxy, which resolves names, each further host is confirmed.
    bob.cli("config", "set", "model.proxy", "http://corp.example:3128")
    try:
        his.page.get_by_role("button", name="Change what is permitted").click()
        his.page.get_by_text("Limits, expiry, and what they are told").click()
        his.page.get_by_label("What its programs may reach").fill("code.example.org\nfar.example.org")
        expect(told).to_contain_text("HTTP proxy resolves code.example.org, far.example.org, so dispatch cannot check")
        for answer, network in (("Cancel", [*edge["scopes"]["network"]]), ("Permit each of these", None)):
            his.page.get_by_role("button", name="Save", exact=True).click()
            expect(his.page.get_by_role("dialog")).to_contain_text("resolves far.example.org, so dispatch cannot check")
            confirm(his, answer)
            if network:
                assert bob.client.trust(alice.email)["scopes"]["network"] == network
        expect(his.page.locator(".permits").first).to_contain_text("far.example.org")
        assert bob.client.trust(alice.email)["scopes"]["network"] == ["code.example.org", "far.example.org"]
    finally:
        bob.cli("config", "set", "model.proxy", "none")


@pytest.mark.long
def test_packages_are_granted_from_the_registries_that_were_shown(pair: Pair, new_tab: Opener, tmp_path: Path) -> None:
    """A fake of npm says what it is set to, and between what the page showed and the Save something else."""
    alice, bob = pair
    programs = tmp_path / "programs"
    programs.mkdir()

    def npm_says(address: str) -> None:
        (programs / "npm").write_text(f"#!/bin/sh\necho {address}\n")
        (programs / "npm").chmod(0o755)

    npm_says("https://shown.example.org/")
    before = bob.environment["PATH"]
    bob.environment["PATH"] = f"{programs}:{before}"
    bob.restart()
    try:
        his = new_tab(bob)
        his.open()
        his.page.locator("#nav").get_by_role("link", name="Contacts").click()
        his.page.locator(".people .row").click()
        his.page.get_by_role("button", name="Change what is permitted").click()
        his.page.get_by_text("Limits, expiry, and what they are told").click()
        his.page.get_by_label("What its programs may reach").fill("packages")
        told = his.page.get_by_role("region", name="What this would permit")
        expect(told).to_contain_text("https://shown.example.org (npm)")
        npm_says("https://other.example.org/")
        save = his.page.get_by_role("button", name="Save", exact=True)
        save.click()
        expect(his.page.get_by_text("have changed since you were shown them")).to_be_visible()
        assert bob.client.trust(alice.email)["scopes"]["network"] == []
        # Leaving the field for the button has it shown anew.
        expect(told).to_contain_text("https://other.example.org (npm)")
        save.click()
        expect(his.page.locator(".permits").first).to_contain_text("https://other.example.org (npm)")
    finally:
        bob.client.edit_trust(alice.email, {"network": "none"})
        bob.environment["PATH"] = before
        bob.restart()


@pytest.fixture
def projects(pair: Pair) -> Iterator[tuple[str, str]]:
    """Two projects of Bob's that Alice's tasks may run in."""
    _, bob = pair
    website, parser = bob.projects / "website", bob.projects / "parser"
    for folder in (website, parser):
        (folder / ".git").mkdir(parents=True, exist_ok=True)
    bob.cli("config", "set", "roots", str(bob.projects))
    try:
        yield str(website), str(parser)
    finally:
        bob.cli("config", "set", "roots", "")


def test_the_folder_it_runs_in_is_suggested_and_another_can_be_chosen(
    pair: Pair, new_tab: Opener, projects: tuple[str, str]
) -> None:
    """Seen to fail with a page that sends the suggested folder all the same."""
    alice, bob = pair
    website, parser = projects
    bob.client.edit_trust(alice.email, {"paths": [website, parser]})
    dispatch_id = alice.client.send(bob.email, "Look at the website", project="website")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    tab = new_tab(bob)
    tab.open(dispatch_id)
    suggested = tab.page.get_by_role("radio", name=website)
    expect(suggested).to_be_checked()
    expect(suggested).to_have_accessible_description(re.compile("^suggested: the (task|sender's hint) names `"))
    accept = tab.page.get_by_role("button", name="Accept and run")
    runs = f"Runs in {{}}; {alice.email} gets the result"
    expect(accept).to_have_accessible_description(runs.format("~/code/website"))
    tab.page.get_by_role("radio", name="An empty workspace").check()
    expect(accept).to_have_accessible_description(runs.format("an empty workspace"))

    other = tab.page.get_by_role("radio", name="Another folder")
    other.check()
    expect(accept).to_have_accessible_description("")
    tab.page.get_by_role("button", name="Accept and run").click()
    expect(tab.page.get_by_role("alert")).to_contain_text("No folder was named")
    expect(tab.page.get_by_label("Folder to run it in")).to_be_focused()
    suggested.check()
    tab.page.get_by_label("Folder to run it in").fill(str(bob.home))
    expect(other).to_be_checked()
    tab.page.get_by_role("button", name="Accept and run").click()
    expect(tab.page.get_by_role("alert")).to_contain_text("What helps")  # that one was never permitted
    assert bob.client.dispatch(dispatch_id)["status"] == "pending"
    tab.page.get_by_label("Folder to run it in").fill(parser)
    expect(accept).to_have_accessible_description(runs.format("~/code/parser"))
    accept.click()
    expect(tab.page.get_by_text("Accepted: it starts now.")).to_be_visible()
    assert bob.state_of(dispatch_id, "completed")["status"] == "completed"
    assert bob.client.dispatch(dispatch_id)["cwd"] == parser


@pytest.mark.long
def test_a_folder_behind_a_link_is_shown_before_anything_runs(
    pair: Pair, new_tab: Opener, projects: tuple[str, str]
) -> None:
    """Seen to fail with a page that accepts what was typed, and a daemon that follows links: it ran in the other folder
    at once."""
    alice, bob = pair
    website, _ = projects
    link = bob.projects / "link"
    link.symlink_to(website)
    try:
        dispatch_id = alice.client.send(bob.email, "Look")["dispatch_id"]
        alice.state_of(dispatch_id, "pending")
        tab = new_tab(bob)
        tab.open(dispatch_id)
        tab.page.get_by_label("Folder to run it in").fill(str(link))
        tab.page.get_by_role("button", name="Accept and run").click()
        expect(tab.page.get_by_role("alert")).to_contain_text(f"{link} leads to {website}")
        expect(tab.page.get_by_label("Folder to run it in")).to_have_value(website)
        assert bob.client.dispatch(dispatch_id)["status"] == "pending"
        tab.page.get_by_role("button", name="Accept and run").click()
        expect(tab.page.get_by_text("Accepted: it starts now.")).to_be_visible()
        assert bob.client.dispatch(dispatch_id)["cwd"] == website
    finally:
        link.unlink()


@pytest.mark.long
def test_health_says_what_is_broken_and_what_helps(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a page that leaves the fix away."""
    _, bob = pair
    tab = new_tab(bob)
    tab.open()  # by `dispatch open`, which refuses a state folder that others can reach
    bob.state.path.chmod(0o755)
    try:
        tab.page.get_by_role("link", name="Health").click()
        part = tab.page.locator(".checks li", has_text="permissions")
        expect(part).to_have_attribute("data-ok", "no")
        expect(part).to_contain_text(str(bob.state.path))
        expect(part.locator(".fix")).to_have_text("What helps: run dispatch doctor --fix")
        expect(tab.page.get_by_text(re.compile("need(s)? you"))).to_be_visible()
        bob.cli("doctor", "--fix", status=bob_is_not_well(bob))
        tab.page.get_by_role("button", name="Check again").click()
        expect(part).to_have_attribute("data-ok", "yes")
        assert part.locator(".fix").count() == 0
        assert set(tab.page.locator(".checks li strong").all_inner_texts()) >= {"Permissions", "Broker", "Sandbox"}
    finally:
        bob.state.path.chmod(0o700)


def bob_is_not_well(bob: Person) -> int:
    """What `doctor` exits with here: some parts of a test's machine never work."""
    return int(any(not each["ok"] for each in bob.client.doctor()["checks"]))


def test_signing_out_ends_this_browsers_session(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a page that only forgets its key."""
    _, bob = pair
    tab = new_tab(bob)
    tab.open()
    key = tab.page.evaluate("localStorage.getItem('dispatch-page-key')")
    tab.page.get_by_role("link", name="Settings").click()
    tab.page.get_by_role("button", name="Sign out").click()
    expect(tab.page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(tab.page.locator("#nav")).to_be_hidden()
    assert tab.page.evaluate("localStorage.length") == 0
    # The key alone is worth nothing afterwards, even with whatever cookie is left.
    status = tab.page.evaluate(
        "async (key) => (await fetch('/v1/page/session', { headers: { 'x-dispatch-page': key } })).status", key
    )
    assert status == 401 and not has_cookie(tab)


def has_cookie(tab: Tab) -> bool:
    """Whether the browser still holds a cookie of the page."""
    return any(each["name"].startswith("dispatch-page") for each in tab.page.context.cookies())


@pytest.mark.long
def test_both_sides_can_cancel(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a page that cancels without asking once more."""
    alice, bob = pair
    bob.will({"tool": "Bash", "input": {"command": "echo waiting"}})
    sent = [alice.client.send(bob.email, f"Task {n}")["dispatch_id"] for n in range(2)]
    for each in sent:
        alice.state_of(each, "pending")
    hers, his = new_tab(alice), new_tab(bob)
    hers.open(sent[0])
    hers.page.get_by_role("button", name="Cancel it").click()
    expect(hers.page.get_by_role("dialog", name="Cancel this dispatch?")).to_contain_text("the run is stopped")
    confirm(hers, "Cancel")
    assert alice.client.dispatch(sent[0])["status"] == "pending"
    hers.page.get_by_role("button", name="Cancel it").click()
    confirm(hers, "Cancel it")
    expect(hers.page.locator(".ended")).to_contain_text("Cancelled")
    bob.state_of(sent[0], "cancelled")

    bob.client.accept(sent[1])
    his.open(sent[1])
    his.page.locator(".approval").wait_for()
    his.page.get_by_role("button", name="Cancel it").click()
    expect(his.page.get_by_role("dialog")).to_contain_text("The run is stopped at once.")
    confirm(his, "Cancel it")
    expect(his.page.locator("p.ended")).to_contain_text("Cancelled")
    expect(his.page.locator(".approval:not(.over)")).to_have_count(0)
    alice.state_of(sent[1], "cancelled")


def test_invitations_are_withdrawn_declined_and_their_sender_blocked(world: World, new_tab: Opener) -> None:
    """Seen to fail with a button that blocks nobody."""
    ivan, judy = world.people_named("ivan", "judy")
    hers, his = new_tab(judy), new_tab(ivan)
    hers.open()
    hers.page.get_by_role("link", name=re.compile("^Invitations")).click()
    card = hers.page.locator("li.card", has_text=ivan.email)
    his.open()
    his.page.get_by_role("link", name=re.compile("^Invitations")).click()
    mine = his.page.locator(".plain-list li")

    def invite() -> None:
        his.page.get_by_label("Their e-mail address").fill(judy.email)
        his.page.get_by_role("button", name="Invite", exact=True).click()
        expect(card).to_contain_text("asks to send you tasks")  # by the broker, which is asked now and then

    invite()
    mine.first.get_by_role("button", name="Withdraw it").click()
    expect(mine.first).to_contain_text("withdrawn")
    expect(card).to_have_count(0)

    invite()
    card.get_by_role("button", name="Decline", exact=True).click()
    expect(hers.page.get_by_role("dialog")).to_contain_text("Nothing is permitted, and they are told.")
    confirm(hers, "Decline")
    expect(hers.page.get_by_text("Nobody is waiting for your answer.")).to_be_visible()
    expect(mine.first).to_contain_text("declined")

    invite()
    card.get_by_role("button", name="Block").click()
    expect(hers.page.get_by_role("dialog")).to_contain_text("Their invitations are refused from now on.")
    confirm(hers, "Block")
    expect(hers.page.get_by_text("Nobody is waiting for your answer.")).to_be_visible()
    assert judy.rows("SELECT count(*) FROM blocked") == [(1,)]
    assert judy.edge(ivan, "incoming") is None


@pytest.mark.long
def test_what_was_paused_is_resumed(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a page that shows Pause where it should show Resume."""
    alice, bob = pair
    tab = new_tab(bob)
    tab.open()
    tab.page.locator("#nav").get_by_role("link", name="Contacts").click()
    # Seen to fail with "every step is asked for", and with "Mind:" before what an edge permits.
    expect(tab.page.locator(".people .row")).to_contain_text("you are asked before every step")
    tab.page.locator(".people .row").click()
    expect(tab.page.locator(".permits").first).to_contain_text("Note: ")
    tab.page.get_by_role("button", name="Pause").click()
    expect(tab.page.get_by_text("This is paused.")).to_be_visible()
    assert bob.client.trust(alice.email)["status"] == "paused"
    tab.page.get_by_role("button", name="Resume").click()
    expect(tab.page.get_by_role("button", name="Pause")).to_be_visible()
    expect(tab.page.get_by_text("This is paused.")).to_have_count(0)
    assert bob.client.trust(alice.email)["status"] == "active"


@pytest.mark.long
def test_what_is_wanted_back_and_the_background_go_along(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a form that leaves the background away."""
    alice, bob = pair
    tab = new_tab(alice)
    tab.open()
    tab.page.get_by_role("link", name="New dispatch").click()
    tab.page.get_by_label("To", exact=True).select_option(bob.email)
    expect(tab.page.locator("#to-hint")).to_contain_text("they are asked before every step")
    tab.page.get_by_label("Task", exact=True).fill("Summarise it")
    tab.page.get_by_text("More: deliverable").click()
    tab.page.get_by_label("What is wanted back").fill("Three sentences")
    tab.page.get_by_label("Background").fill("We spoke on Tuesday.\nIt was raining.")
    tab.page.get_by_label("Project, as the sender calls it").fill("till")
    tab.page.get_by_role("button", name="Sign and send").click()
    expect(tab.page.locator(".people-of", has_text=bob.email)).to_be_visible()
    dispatch_id = tab.page.url.rpartition("/")[2]
    alice.state_of(dispatch_id, "pending")
    his = new_tab(bob)
    his.open(dispatch_id)
    task = his.page.get_by_role("region", name="What came with it")
    for heading, words in (
        ("What is wanted back", "Three sentences"),
        ("Background", "We spoke on Tuesday.\nIt was raining."),
    ):
        expect(task.get_by_role("heading", name=heading)).to_be_visible()
        assert words in task.inner_text()
    expect(task).to_contain_text("Project, as the sender calls it: “till”")


@pytest.mark.long
def test_the_countdown_of_a_call(pair: Pair, new_tab: Opener) -> None:
    """By the page's own clock, which the test moves. Seen to fail with buttons that stay when no time is left."""
    alice, bob = pair
    bob.will({"tool": "Bash", "input": {"command": "echo waiting"}})
    dispatch_id = alice.client.send(bob.email, "Wait for me")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    bob.approval_of(dispatch_id)
    tab = new_tab(bob)
    tab.page.clock.install()
    tab.open(dispatch_id)
    left = tab.page.get_by_role("timer", name="Time left to answer")
    expect(left).to_have_text(re.compile(r"^1:\d\d left$"))
    tab.page.locator(".approval[data-armed]").wait_for()
    tab.page.clock.fast_forward(62_000)
    expect(left).to_have_text(re.compile(r"^0:\d\d left$"))
    allow = tab.page.get_by_role("button", name="Allow once")
    expect(allow).to_be_enabled()
    tab.page.clock.fast_forward(60_000)
    expect(left).to_have_text("0:00 left")
    expect(left).to_have_class(re.compile("soon"))
    expect(allow).to_be_disabled()
    bob.end_runs()


@pytest.mark.long
def test_a_call_that_nobody_answered_says_so(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a page that takes what was not answered for what was denied."""
    alice, bob = pair
    bob.will({"tool": "Bash", "input": {"command": "echo waiting"}}, {"say": "Nobody was there."})
    bob.stop()
    impatient(bob)
    try:
        dispatch_id = alice.client.send(bob.email, "Wait for me")["dispatch_id"]
        alice.state_of(dispatch_id, "pending")
        tab = new_tab(bob)
        tab.open(dispatch_id)
        tab.page.get_by_role("button", name="Accept and run").click()
        expect(tab.page.locator(".approval.over")).to_contain_text(
            "Nobody answered within two minutes, so it was denied."
        )
        expect(tab.page.locator(".trace")).to_contain_text("Nobody answered, so it was denied")
        expect(tab.page.locator(".result")).to_contain_text("Nobody was there.")
        expect(tab.page.locator("body")).not_to_have_class(re.compile("asked"))  # no call waits any more
    finally:
        bob.stop()


def impatient(person: Person) -> None:
    """Start a daemon whose calls wait for seconds, where others wait for two minutes."""
    given = ["--port", "0", "--listen", "/ip4/127.0.0.1/tcp/0"]
    person.program = Program("tests.page.impatient", given, person.environment, person.home / "daemon.errors")
    person.ready()
