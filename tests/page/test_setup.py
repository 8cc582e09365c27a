"""Setting a machine up on the page: a daemon without a sign-in, a real broker, a real browser, until the inbox."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.page.browser import Tab, port
from tests.page.conftest import Opener
from tests.page.scene import newcomer
from tests.sandbox.fake_model import FakeModel, say, serving
from tests.system.world import Person, World

KEY = "sk-made-up-for-the-page"


def open_setup(tab: Tab, person: Person) -> None:
    """Come in as `dispatch open` leads, before there is an identity."""
    tab.go("/")
    tab.page.goto(person.cli("open", "--no-browser", "--json").json["url"])
    tab.page.get_by_role("heading", name="Set up this machine").wait_for()


def test_from_nothing_to_the_inbox(world: World, new_tab: Opener) -> None:
    """Seen to fail with a step that closed over the invitation which was being answered in it."""
    alice, zoe = world.person("alice"), newcomer(world, "zoe")
    (zoe.home / "code" / "parser").mkdir()
    (zoe.home / "code" / "parser" / "package.json").write_text("{}")
    for words in (["inbox"], ["send", "a@example.org", "x"], ["whoami"]):
        error = zoe.refused(*words)
        assert error["code"] == 401 and "`dispatch setup`" in error["fix"] and "`dispatch open`" in error["fix"]

    tab = new_tab(zoe)
    page = tab.page
    open_setup(tab, zoe)
    before = port(zoe)
    expect(page.locator("#nav")).to_be_hidden()
    page.get_by_label("The broker’s address").fill("https://broker.invalid")
    page.get_by_label("Your e-mail address").fill("zoe")
    page.get_by_label("Your e-mail address").evaluate("each => each.type = 'text'")
    page.get_by_role("button", name="Get a code").click()
    expect(page.get_by_role("alert")).to_contain_text("zoe")
    page.get_by_label("The broker’s address").fill(world.broker.url)
    page.get_by_label("Your e-mail address").fill(zoe.email)
    page.get_by_role("button", name="Get a code").click()
    code = page.get_by_label("Code").inner_text()
    link = page.get_by_role("link", name=re.compile("^Open 127"))
    assert str(link.get_attribute("href")).startswith(world.broker.url)
    assert tab.axe() == []
    world.broker.approve(code)

    # The daemon goes on as the node, in its process and on its port; the page as it is.
    expect(page.locator("[data-step=sign-in]")).to_have_attribute("data-kind", "done")
    page.locator("#nav").wait_for()
    zoe.ready()
    assert (port(zoe), zoe.client.whoami()["user_id"]) == (before, zoe.email)
    expect(page.locator("#who")).to_contain_text(zoe.email)

    # A key that the model's API refuses is not kept; one that it takes is, and nothing says it again.
    with serving(FakeModel([say("hello")])) as model:
        model.answers = [(401, {}, b""), (200, {}, b"{}")]
        zoe.cli("config", "set", "model.base_url", model.url)
        page.get_by_label("The key").fill("sk-wrong")
        page.get_by_role("button", name="Save the key").click()
        expect(page.get_by_role("alert")).to_contain_text("rejects the key")
        assert "api_key" not in zoe.state.config.read_text()
        page.get_by_label("The key").fill(KEY)
        page.get_by_role("button", name="Save the key").click()
        expect(page.locator("[data-step=run]")).to_have_attribute("data-kind", "done")
    assert KEY not in page.content() + zoe.state.daemon_log.read_text() and KEY in zoe.state.config.read_text()

    # Project folders are set here as `dispatch config set roots` does.
    page.get_by_label("Folders that hold your projects").fill(str(zoe.home / "nowhere"))
    page.locator(".part").filter(has_text="Project folders").get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no folder")
    page.get_by_label("Folders that hold your projects").fill(str(zoe.home / "code"))
    page.locator(".part").filter(has_text="Project folders").get_by_role("button", name="Save").click()
    expect(page.locator(".part").filter(has_text="Project folders").locator(".badge")).to_have_text("set")
    expect(page.locator(".part").filter(has_text="Project folders").get_by_role("status")).to_have_text(
        f"{zoe.home / 'code'}: 1 project (parser)"
    )
    expect(page.get_by_label("Folders that hold your projects")).to_have_value(str(zoe.home / "code"))
    assert zoe.cli("config", "get", "roots", "--json").json["value"] == [str(zoe.home / "code")]

    # An invitation is pasted, and what comes of it is the third tick; a step is skipped; then the inbox.
    page.locator("[data-step=run]").get_by_role("button", name="Continue").click()
    page.get_by_label("The address or token of an invitation to you").fill(alice.client.invite(zoe.email)["link"])
    page.get_by_role("button", name="Open it").click()
    page.locator("fieldset.power").get_by_label("Look only").check()
    page.get_by_role("button", name="Permit this").click()
    expect(page.locator("[data-step=people]")).to_have_attribute("data-kind", "done")
    page.locator("[data-step=people]").get_by_role("button", name="Continue").click()
    page.locator("[data-step=try]").get_by_role("button", name="Skip for now").click()
    page.get_by_role("link", name="Go to the inbox").click()
    expect(page.get_by_role("heading", name="Inbox", exact=True)).to_be_visible()
    expect(page.locator("#to-setup")).to_be_hidden()
    expect(page).to_have_title("Inbox · dispatch")
    sent = alice.client.send(zoe.email, "Look at the parser\nand say why.")["dispatch_id"]
    alice.state_of(sent, "pending")
    expect(page).to_have_title("(1) Inbox · dispatch")
    row = page.locator(".waiting .row").first
    expect(row.locator(".text")).to_have_text("Look at the parser")
    expect(row).to_contain_text(re.compile(re.escape(alice.email) + r".*answer within (60|59) min"))


@pytest.mark.long
def test_a_sign_in_on_the_terminal_and_what_keeps_tasks_from_running(world: World, new_tab: Opener) -> None:
    """The daemon notices it. The banner is on every view until it is mended, or not wanted."""
    yan = newcomer(world, "yan")
    tab = new_tab(yan)
    page = tab.page
    open_setup(tab, yan)
    yan.sign_in()
    yan.configure(runtime="claude")
    expect(page.locator("[data-step=sign-in]")).to_have_attribute("data-kind", "done")
    yan.cli("config", "set", "runtime", "claude")
    needs = page.locator("#needs")
    for view in ("/inbox", "/sent", "/contacts", "/settings"):
        tab.show(view)
        expect(needs).to_contain_text("its agent has no model key")
    expect(page.locator("#to-setup")).to_contain_text("3 left")
    needs.get_by_role("link", name="Set the model key").click()
    expect(page.get_by_label("The key")).to_be_visible()
    tab.show("/inbox")
    yan.cli("config", "set", "model.api_key", "-", stdin=KEY)
    expect(needs).to_be_hidden()
    yan.cli("config", "set", "model.api_key", "")
    expect(needs).to_be_visible()
    needs.get_by_role("button", name="I only send from here").click()
    expect(needs).to_be_hidden()
    yan.cli("logout")
    expect(needs).to_contain_text("not signed in to a broker")
    page.get_by_label("Find in tasks").fill("x")  # the page itself is still signed in
    expect(page.get_by_role("heading", name="Found for")).to_be_visible()
