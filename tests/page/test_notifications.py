"""Desktop notifications by the daemon, shown by a fake `notify-send` that writes down what it is given."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, Response, expect

from peer.node.notifications import PASSED_ON
from tests.page.browser import port
from tests.page.conftest import Opener
from tests.system.world import Document, Person, eventually

Pair = tuple[Person, Person]

IN_BROWSER = """
window.notified = [];
window.notes = [];
document.hasFocus = () => false;
window.Notification = class {
  static permission = "granted";
  static requestPermission = async () => "granted";
  constructor(title, { body }) {
    window.notified.push(body);
    window.notes.push(this);
  }
  addEventListener() {}
  close() {}
};
"""
"""Plays the browser's way to the desktop: writes down what it is given."""

FAKE = """#!{python}
import json, os, sys
with open({told!r}, "a") as file:
    file.write(json.dumps({{"argv": sys.argv[1:], "env": dict(os.environ)}}) + "\\n")
"""


class Desktop:
    """What a person was shown."""

    def __init__(self, person: Person) -> None:
        self._told = person.home / "notified.jsonl"
        self._told.write_text("")
        folder = person.home / "fake-desktop"
        folder.mkdir()
        program = folder / "notify-send"
        program.write_text(FAKE.format(python=sys.executable, told=str(self._told)))
        program.chmod(0o755)
        person.environment["PATH"] = f"{folder}{os.pathsep}{person.environment['PATH']}"
        person.environment["ANTHROPIC_API_KEY"] = "sk-made-up"
        person.restart()

    def shown(self) -> list[Document]:
        return [json.loads(line) for line in self._told.read_text().splitlines()]

    def says(self, text: str) -> Document:
        """Wait until this was shown; return it."""
        found = eventually(lambda: [one for one in self.shown() if one["argv"][-1] == text], what=f"the words {text!r}")
        return dict(found[0])


@pytest.fixture
def desktops(pair: Pair) -> Iterator[tuple[Desktop, Desktop]]:
    alice, bob = pair
    before = [dict(person.environment) for person in pair]
    try:
        yield Desktop(alice), Desktop(bob)
    finally:
        for person, environment in zip(pair, before, strict=True):
            person.environment.clear()
            person.environment.update(environment)
            shutil.rmtree(person.home / "fake-desktop", ignore_errors=True)


def test_what_is_worth_a_notification_and_what_it_does_not_say(pair: Pair, desktops: tuple[Desktop, Desktop]) -> None:
    """Seen to fail with the daemon's environment passed on, and with the setting ignored."""
    alice, bob = pair
    hers, his = desktops
    bob.will({"tool": "Bash", "input": {"command": "echo looking"}}, {"say": "done"})
    secret = "The secret plan, <b>word for word</b>"
    dispatch_id = alice.client.send(bob.email, secret)["dispatch_id"]
    shown = his.says(f"{alice.email} sent you a dispatch")
    assert set(shown["env"]) <= {"PATH", "LC_CTYPE", *PASSED_ON}, "no secret of the daemon's"
    assert shown["argv"][:-1] == ["--app-name=dispatch", "--expire-time=15000", "--"]
    bob.client.accept(dispatch_id)
    his.says(f"A run for {alice.email} waits for your answer")
    bob.client.approve(dispatch_id, bob.approval_of(dispatch_id)["request_id"])
    hers.says(f"{bob.email}'s machine has a result for you")
    assert all("secret" not in json.dumps(one["argv"]) for one in (*his.shown(), *hers.shown()))

    # Turned off, nothing is shown, and nothing of it later.
    bob.cli("config", "set", "notifications", "off")
    before = len(his.shown())
    alice.state_of(alice.client.send(bob.email, "While off")["dispatch_id"], "pending")
    bob.cli("config", "set", "notifications", "on")
    later = alice.client.send(bob.email, "On again")["dispatch_id"]
    alice.state_of(later, "pending")
    bob.client.accept(later)
    asks = f"A run for {alice.email} waits for your answer"
    eventually(lambda: [one["argv"][-1] for one in his.shown()].count(asks) == 2, what="the second call")
    assert len(his.shown()) == before + 2, "what arrived then, and its call"


def stream(notifies: int) -> Callable[[Response], bool]:
    """A live stream that the daemon has taken up, of a page which says whether it notifies."""
    return lambda response: "/v1/page/stream" in response.url and f"notifies={notifies}" in response.url


def notified(page: Page, number: int) -> None:
    page.wait_for_function("number => window.notified.length === number", arg=number)


@pytest.mark.long
def test_an_open_page_says_it_in_place_of_the_daemon(
    pair: Pair, desktops: tuple[Desktop, Desktop], new_tab: Opener
) -> None:
    """Seen to fail with the daemon never asking whether a page is open."""
    alice, bob = pair
    _, his = desktops
    tab = new_tab(bob)
    tab.page.add_init_script(IN_BROWSER)
    tab.open()
    words = f"{alice.email} sent you a dispatch"

    def told_by_the_page(number: int) -> None:
        alice.client.send(bob.email, f"Number {number}, while it is open")
        notified(tab.page, number)

    told_by_the_page(1)
    told_by_the_page(2)
    assert tab.page.evaluate("window.notified") == [words] * 2
    tab.page.goto("about:blank")
    sent = 0

    def told_by_the_daemon() -> list[Document]:
        """Its closing is noticed when its connection ends, which nothing announces here."""
        nonlocal sent
        sent += 1
        alice.state_of(alice.client.send(bob.email, "While it is closed")["dispatch_id"], "pending")
        return his.shown()

    eventually(told_by_the_daemon, what="the daemon's word")
    said = [one["argv"][-1] for one in his.shown()]
    assert set(said) == {words} and len(said) <= sent, "nothing of what the page said: one is said after the other"


@pytest.mark.long
def test_an_open_page_tells_of_a_call_and_of_a_result_too(
    pair: Pair, desktops: tuple[Desktop, Desktop], new_tab: Opener
) -> None:
    """Seen to fail with a page that is quiet about calls, and with one that is quiet about results."""
    alice, bob = pair
    bob.will({"tool": "Bash", "input": {"command": "echo secret"}}, {"say": "the secret answer"})
    hers, his = new_tab(alice), new_tab(bob)
    for tab in (hers, his):
        tab.page.add_init_script(IN_BROWSER)
        with tab.page.expect_response(stream(notifies=1)):
            tab.open()
    dispatch_id = alice.client.send(bob.email, "The secret plan")["dispatch_id"]
    notified(his.page, 1)
    bob.client.accept(dispatch_id)
    notified(his.page, 2)
    bob.client.approve(dispatch_id, bob.approval_of(dispatch_id)["request_id"])
    notified(hers.page, 1)
    assert his.page.evaluate("window.notified") == [
        f"{alice.email} sent you a dispatch",
        f"A run for {alice.email} waits for your answer",
    ]
    assert hers.page.evaluate("window.notified") == [f"{bob.email}’s machine has a result for you"]
    assert [desktop.shown() for desktop in desktops] == [[], []], "the daemons leave it to the pages"
    # Each leads to what it is about.
    for tab in (hers, his):
        tab.page.evaluate("window.notes.at(-1).onclick()")
        expect(tab.page.locator(".result")).to_contain_text("the secret answer")
        assert tab.page.url.endswith(f"/dispatches/{dispatch_id}")


@pytest.mark.long
def test_an_open_page_hears_that_they_were_turned_off_and_on(
    pair: Pair, desktops: tuple[Desktop, Desktop], new_tab: Opener
) -> None:
    """Seen to fail with no word of new settings in the stream, and with a page that does not report anew."""
    alice, bob = pair
    _, his = desktops
    tab = new_tab(bob)
    tab.page.add_init_script(IN_BROWSER)
    with tab.page.expect_response(stream(notifies=1)):
        tab.open()

    def arrives(words: str) -> None:
        alice.client.send(bob.email, words)
        expect(tab.page.locator(".row", has_text=words).first).to_be_visible()

    arrives("While on")
    notified(tab.page, 1)
    with tab.page.expect_response(stream(notifies=0)):
        bob.cli("config", "set", "notifications", "off")
    arrives("While off")
    assert tab.page.evaluate("window.notified.length") == 1 and his.shown() == []
    with tab.page.expect_response(stream(notifies=1)):
        bob.cli("config", "set", "notifications", "on")
    arrives("On again")
    notified(tab.page, 2)
    assert his.shown() == [], "the page said it"


@pytest.mark.long
def test_a_page_that_was_loaded_while_they_were_off_hears_that_they_are_on(
    pair: Pair, desktops: tuple[Desktop, Desktop], new_tab: Opener
) -> None:
    """Turned on in another tab. Seen to fail with a page that reports its permission alone."""
    alice, bob = pair
    _, his = desktops
    bob.cli("config", "set", "notifications", "off")
    tab = new_tab(bob)
    tab.page.add_init_script(IN_BROWSER)
    with tab.page.expect_response(stream(notifies=0)):
        tab.open()
    other = tab.page.context.new_page()
    other.goto(f"http://127.0.0.1:{port(bob)}/settings")
    setting = other.get_by_role("checkbox", name="Desktop notifications")
    expect(setting).not_to_be_checked()
    with tab.page.expect_response(stream(notifies=1)):
        setting.check()
    alice.client.send(bob.email, "After it was turned on")
    notified(tab.page, 1)
    assert his.shown() == [], "the page said it"
    # And the view that shows the setting follows what was done elsewhere.
    bob.cli("config", "set", "notifications", "off")
    expect(setting).not_to_be_checked()
    bob.cli("config", "set", "notifications", "on")
    expect(setting).to_be_checked()
