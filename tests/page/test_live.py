"""What a page shows stays true by itself: two tabs, a daemon that comes back, long traces, and hostile text."""

from __future__ import annotations

import json
import re
from contextlib import closing, suppress
from functools import partial

import pytest
from playwright.sync_api import Locator, Page, Request, Route, TimeoutError, expect

from peer.dispatches import text
from peer.protocol.content import FIELDS
from peer.store import connection, trace
from tests.conftest import HANG
from tests.dispatches.test_text import ORDINARY, PADDED
from tests.page.browser import Tab, port
from tests.page.conftest import Opener
from tests.page.scene import settled
from tests.system.world import Person

Pair = tuple[Person, Person]
SHELL = re.compile(r"/page/([0-9a-f]{16})/")


@pytest.mark.long
def test_two_tabs_show_the_same_and_each_has_one_stream(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    bob.will({"say": "one"}, {"tool": "Bash", "input": {"command": "echo x"}}, {"say": "two"})
    first = new_tab(bob)
    first.open()
    second = first.page.context.new_page()
    streams = {first.page: 0, second: 0}
    for page in streams:
        page.on("request", partial(count, streams, page))
    second.goto(f"http://127.0.0.1:{port(bob)}/inbox")
    first.page.reload()
    for page in (first.page, second):
        page.locator(".tabs").wait_for()
    dispatch_id = alice.client.send(bob.email, "Look at the parser")["dispatch_id"]
    for page in (first.page, second):
        expect(page.locator(".row", has_text="Look at the parser").first).to_contain_text("Decide")
    second.goto(f"http://127.0.0.1:{port(bob)}/dispatches/{dispatch_id}")
    second.get_by_role("button", name="Accept and run").click()
    expect(first.page.locator(".row", has_text="Look at the parser").first).to_contain_text("waits for your answer")
    expect(second.locator(".trace")).to_contain_text("one")
    second.locator(".approval[data-armed]").wait_for()
    second.keyboard.press("1")
    expect(second.locator(".trace")).to_contain_text("two")
    expect(first.page.locator(".row", has_text="Look at the parser").first).to_contain_text("Done")
    assert streams == {first.page: 1, second: 2}, "one for each document that was shown"


def count(streams: dict[Page, int], page: Page, request: Request) -> None:
    streams[page] += "/v1/page/stream" in request.url


def test_a_daemon_that_comes_back_finds_its_page_again(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    tab = new_tab(bob)
    tab.open()
    tab.page.locator(".tabs").wait_for()
    served = str(port(bob))
    bob.stop()
    expect(tab.page.locator("#banner")).to_contain_text("does not answer")
    bob.start("--port", served, "--listen", "/ip4/127.0.0.1/tcp/0")
    expect(tab.page.locator("#banner")).to_be_hidden()
    alice.client.send(bob.email, "After the restart")
    expect(tab.page.locator(".row", has_text="After the restart").first).to_be_visible()

    # Where the session ended meanwhile, it says how to sign in again.
    bob.stop()
    bob.state.page_sessions.unlink()
    bob.start("--port", served, "--listen", "/ip4/127.0.0.1/tcp/0")
    expect(tab.page.locator("main")).to_contain_text("dispatch open")
    expect(tab.page.locator("#nav")).to_be_hidden()
    assert tab.page.locator(".row").count() == 0
    tab.wrong.clear()
    tab.open()
    expect(tab.page.locator(".row", has_text="After the restart").first).to_be_visible()


@pytest.mark.long
def test_a_trace_goes_on_after_a_restart_with_nothing_twice(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a page that takes every event it is told, and comes back without its place.

    At the sender's page the run goes on meanwhile; at the recipient's it was interrupted, and runs once more."""
    alice, bob = pair
    call = {"tool": "Bash", "input": {"command": "echo between"}}
    bob.will({"say": "before the restart"}, call, {"say": "after the restart"})
    dispatch_id = alice.client.send(bob.email, "Go on")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    hers, his = new_tab(alice), new_tab(bob)
    hers.open(dispatch_id)
    his.open(dispatch_id)

    def again(person: Person) -> None:
        served = str(port(person))
        person.stop()
        person.start("--port", served, "--listen", "/ip4/127.0.0.1/tcp/0")

    def shows_each_once(tab: Tab, *texts: str) -> None:
        events = tab.person.client.dispatch(dispatch_id)["events"]
        expect(tab.page.locator("#trace-title")).to_contain_text(f"{len(events)} events")
        lines = [
            event for event in events if event["kind"] not in ("approval", "tool_result")
        ]  # those are with their call
        expect(tab.page.locator(".trace > li")).to_have_count(len(lines))
        for words in texts:
            expected = sum(event.get("text") == words for event in events)
            expect(tab.page.locator(".trace > li", has_text=words)).to_have_count(expected)
            assert expected

    his.page.get_by_role("button", name="Accept and run").click()
    bob.approval_of(dispatch_id)
    expect(hers.page.locator(".trace")).to_contain_text("before the restart")
    again(alice)
    expect(hers.page.locator("#banner")).to_be_hidden()
    again(bob)
    his.page.get_by_role("button", name="Accept and run").click()
    his.page.locator(".approval[data-armed]:not(.over)").wait_for()
    his.page.keyboard.press("1")
    for tab in (hers, his):
        expect(tab.page.locator(".result")).to_contain_text("after the restart")
        shows_each_once(tab, "before the restart", "after the restart")


@pytest.mark.long
def test_calls_that_could_not_be_read_are_read_as_soon_as_they_can(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with a page that said that nothing waits."""
    alice, bob = pair
    bob.will({"tool": "Bash", "input": {"command": "echo waiting"}})
    tab = new_tab(bob)
    tab.open()
    refused: list[str] = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=500, json={"error": {"code": 500, "message": "the disk is away", "fix": "plug it in"}})

    tab.page.route("**/v1/page/approvals", refuse_once)
    tab.go("/approvals")
    expect(tab.page.locator("main")).to_contain_text(re.compile("Nothing waits for you|No call waits"))
    tab.page.clock.install()
    dispatch_id = alice.client.send(bob.email, "Wait for me")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    bob.approval_of(dispatch_id)
    expect(tab.page.locator("main")).to_contain_text("The disk is away")
    assert not re.search("Nothing waits|No call waits", tab.page.locator("main").inner_text())
    tab.page.clock.run_for(3000)
    expect(tab.page.locator(".approval")).to_contain_text("echo waiting")
    expect(tab.page.locator("main")).not_to_contain_text("The disk is away")
    bob.end_runs()


@pytest.mark.long
def test_calls_beyond_the_first_page_of_the_list_are_shown(pair: Pair, new_tab: Opener) -> None:
    """The page reads one call at a time here. Seen to fail where it read the first page alone."""
    alice, bob = pair
    tab = new_tab(bob)
    tab.open()

    def one_at_a_time(route: Route) -> None:
        url = route.request.url
        route.continue_(url=f"{url}{'&' if '?' in url else '?'}limit=1")

    tab.page.route(re.compile(r"/v1/page/approvals(\?|$)"), one_at_a_time)
    for number in range(3):
        bob.will({"tool": "Bash", "input": {"command": f"echo call {number}"}})
        dispatch_id = alice.client.send(bob.email, "Wait for me")["dispatch_id"]
        alice.state_of(dispatch_id, "pending")
        bob.client.accept(dispatch_id)
        bob.approval_of(dispatch_id)
    tab.go("/approvals")
    for number in range(3):
        expect(tab.page.locator(".approval", has_text=f"echo call {number}")).to_be_visible()
    bob.end_runs()


@pytest.mark.long
def test_a_trace_of_ten_thousand_events_is_drawn_as_far_as_it_is_seen(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    dispatch_id = alice.client.send(bob.email, "A long run")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.decline(dispatch_id)
    bob.stop()
    events = [
        json.dumps({"kind": "reasoning", "text": f"line {n} " + "word " * (n % 90), "at": 1_800_000_000_000})
        for n in range(10_000)
    ]
    with closing(connection.connect(bob.state.store)) as db, connection.writing(db):
        trace.add_events(db, dispatch_id, 1, events)
    bob.start()
    tab = new_tab(bob)
    tab.open(dispatch_id)
    expect(tab.page.locator("#trace-title")).to_contain_text("10,000 events")
    expect(tab.page.locator(".trace")).to_contain_text("line 0 ")
    assert tab.page.locator(".trace > li").count() < 120
    last = tab.page.locator('.trace > li[aria-posinset="10000"]')
    to_the_end(tab, last)
    expect(last).to_contain_text("line 9999 ")
    assert tab.page.locator(".trace > li").count() < 120
    assert last.get_attribute("aria-setsize") == "10000"
    # Rows neither overlap nor leave gaps, wherever one looks.
    for share in (0.25, 0.5, 0.9, 0.1):
        tab.page.evaluate("share => scrollTo(0, document.documentElement.scrollHeight * share)", share)
        assert drawn(tab, ".trace") > 5, share


def to_the_end(tab: Tab, last: Locator) -> None:
    """Press End, which goes as far as is known, until the last row is there."""
    for _ in range(int(HANG)):
        tab.page.keyboard.press("End")
        with suppress(TimeoutError):
            last.wait_for(timeout=1000)
            return
    raise AssertionError("the end does not come")


DRAWN = """(rows) => {
  const boxes = [...document.querySelectorAll(`${rows} > li`)].map((row) => row.getBoundingClientRect())
    .map((box) => [box.top, box.bottom]).sort((a, b) => a[0] - b[0]);
  const list = document.querySelector(rows).getBoundingClientRect();
  const [top, bottom] = [Math.max(list.top, 0) + 2, Math.min(list.bottom, innerHeight) - 2];
  const whole = boxes.some((box) => box[0] <= top) && boxes.some((box) => box[1] >= bottom);
  return whole && boxes.every((box, n) => n === 0 || Math.abs(box[0] - boxes[n - 1][1]) < 1.5) ? boxes.length : 0;
}"""


def drawn(tab: Tab, rows: str) -> int:
    """Wait until rows, which neither overlap nor leave gaps, fill what is seen of their list; return their number."""
    number: int = tab.page.wait_for_function(DRAWN, arg=rows).json_value()
    return number


@pytest.mark.long
def test_an_inbox_of_many_is_read_page_by_page(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    for number in range(230):
        alice.client.send(bob.email, f"Number {number}.")
    last = alice.client.send(bob.email, "The newest")["dispatch_id"]
    alice.state_of(last, "pending")
    tab = new_tab(bob)
    asked: list[str] = []
    tab.page.on(
        "request", lambda request: asked.append(request.url) if "direction=received&limit=100" in request.url else None
    )
    tab.open()
    expect(tab.page.locator(".waiting .row")).to_have_count(20)
    tab.page.get_by_role("button", name="Needs a decision").click()
    expect(tab.page.locator("ol .row").first).to_contain_text("The newest")
    assert tab.page.locator("ol .row").count() < 60
    oldest = bob.client.dispatches("received", status="pending", limit=900)["dispatches"][-1]["dispatch_id"]
    to_the_end(tab, tab.page.locator(f'ol .row[href$="{oldest}"]'))
    assert len([url for url in asked if "before=" in url]) >= 2
    numbers: set[str] = set()
    # By script and not by a key, which a browser takes later, and not at all where its element was just redrawn.
    tab.page.wait_for_function("() => (scrollTo(0, 0), document.querySelector('ol.rows > li')?.dataset.index === '0')")
    expect(tab.page.locator("ol .row").first).to_contain_text("The newest")
    for _ in range(230):
        drawn(tab, "ol.rows")
        numbers |= set(re.findall(r"Number (\d+)\.", tab.page.locator("ol.rows").inner_text()))
        before = tab.page.evaluate("scrollY")
        tab.page.evaluate("scrollBy(0, innerHeight / 2)")
        if tab.page.evaluate("scrollY") <= before:
            break
    assert {int(number) for number in numbers} == set(range(230)), "each is seen once on the way down"


HEAD = (
    "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    "<svg onload='window.hacked = 3'><a href=\"javascript:window.hacked = 4\">click me</a></svg>\n"
    "[click](javascript:window.hacked=5) ![x](http://evil.example/x.png) {{ 7*7 }} ${7*7} &lt;b&gt;\n"
    "\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202eright to left\u202c zero\u200bwidth \U000e0041tag \x00\x08\n"
)
HOSTILE = HEAD + "x" * (FIELDS["task"].limit - len(HEAD))
ENDLESS = HEAD + "x" * 150_000
"""A task has no more than 100,000 characters; an agent that repeats what it read may say more."""


def test_nothing_that_a_sender_wrote_is_interpreted(pair: Pair, new_tab: Opener) -> None:
    """Seen to fail with lines that do not wrap."""
    alice, bob = pair
    bob.will(
        {"say": ENDLESS},
        {"tool": "Bash", "input": {"command": "echo '<img src=x onerror=window.hacked=6>' \u202eevil"}},
        {"say": HOSTILE},
    )
    sent = alice.client.send(
        bob.email,
        HOSTILE,
        deliverable=HOSTILE[:1000],
        background=HOSTILE[:2000],
        meta={"<b>": "<script>window.hacked=7</script>\u202e"},
        project="<svg onload=window.hacked=8>",
        links=["https://evil.example/%22%3E%3Cscript%3Ewindow.hacked=9%3C/script%3E"],
    )
    dispatch_id = sent["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    tab = new_tab(bob)
    tab.open()
    expect(tab.page.locator(".row").first).to_contain_text("<script>window.hacked")
    tab.page.locator(".row").first.click()
    tab.page.get_by_role("button", name=re.compile("Show all of it")).first.click()
    shown = tab.page.locator("section:has(#task-title) pre").first.inner_text()
    assert shown.strip() == text.block(HOSTILE).strip(), "every character is there, the hidden ones made visible"
    for part in ("\u202e", "\u200b", "\x1b", "\x00", "\U000e0041"):
        assert part not in tab.page.content()
    tab.page.get_by_role("button", name="Accept and run").click()
    card = tab.page.locator(".approval[data-armed]")
    card.wait_for()
    expect(card).to_contain_text("<U+202E>evil")
    expect(card).to_contain_text("contains invisible characters")
    tab.page.keyboard.press("1")
    expect(tab.page.locator(".result")).to_be_visible()
    said = tab.page.locator(".trace > li").first
    said.get_by_role("button", name=re.compile(r"Show all of it \(15\d,\d{3} ch")).click()
    assert said.locator("pre").inner_text().strip() == text.block(ENDLESS).strip()
    assert tab.page.evaluate("window.hacked") is None
    assert tab.page.evaluate("document.querySelectorAll('main img, main svg, main script, main iframe').length") == 0
    links = tab.page.evaluate("[...document.querySelectorAll('a')].map((each) => each.getAttribute('href'))")
    assert all(re.match(r"/(?!/)|#", link) for link in links), links
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "long lines wrap"
    tab.page.goto(f"http://127.0.0.1:{port(bob)}/history")
    tab.page.get_by_role("heading", name="History").wait_for()
    tab.page.get_by_label("Find in").fill("hacked")
    expect(tab.page.locator(".row").first).to_contain_text("window.")
    assert tab.page.evaluate("window.hacked") is None


@pytest.mark.long
def test_text_is_made_safe_as_everywhere_else(pair: Pair, new_tab: Opener) -> None:
    _, bob = pair
    tab = new_tab(bob)
    tab.open()
    source = tab.page.content()
    build = SHELL.search(source)
    assert build is not None
    flag = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    samples = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    batches = ["|".join(samples[at : at + 5_000]) for at in range(0, len(samples), 5_000)]
    batches += ["a\r\nb\rc\n\td", flag, flag[:-1], "\u2028x\u2029"]
    batches += [padding.format("ls", "rm -rf build") for padding in PADDED]
    batches += [
        *ORDINARY,
        "\n".join(map(str, range(500))),
        "x" * 9_000,
        "a\u200db é\u200dü é\ufe0f\ufe0f 1\ufe0f\u20e3 1\ufe0f",
    ]
    made = tab.page.evaluate(
        "async ([path, texts]) => { const made = await import(path);"
        " const ways = [made.block, made.line, made.excerpt, made.lineExcerpt];"
        " return texts.map((each) => ways.map((way) => way(each))); }",
        [f"/page/{build[1]}/text.js", batches],
    )
    for batch, (block, line, excerpt, line_excerpt) in zip(batches, made, strict=True):
        assert block == text.block(batch)
        assert line == text.line(batch)
        if len(batch.encode("utf-16-le")) == 2 * len(batch):  # lengths count halves of characters there
            assert (excerpt, line_excerpt) == (text.excerpt(batch), text.line_excerpt(batch))
    alone = tab.page.evaluate(
        "async (path) => (await import(path)).block('a' + String.fromCharCode(0xd800) + 'b')",
        f"/page/{build[1]}/text.js",
    )
    assert alone == text.block("a\ud800b")


@pytest.mark.long
def test_the_answers_stay_in_reach_of_a_long_call(pair: Pair, new_tab: Opener) -> None:
    """A hundred thousand characters and six hundred empty lines: head, tail, the count, and the buttons right below."""
    alice, bob = pair
    command = "ls" + "\n" * 600 + "x" * 100_000 + "\nrm -rf build"
    bob.will({"tool": "Bash", "input": {"command": command}})
    dispatch_id = alice.client.send(bob.email, "Look into it")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    call = bob.approval_of(dispatch_id)
    tab = new_tab(bob)
    tab.open(dispatch_id)
    card = tab.page.locator(".approval[data-armed]")
    expect(card).to_contain_text("rm -rf build")
    expect(card).to_contain_text("⟨599 empty lines⟩")
    expect(card).to_contain_text("left out here")
    expect(card).to_contain_text("Look twice: ")
    expect(card.get_by_role("button", name="Deny")).to_be_enabled()
    box = card.bounding_box()
    assert box is not None and box["height"] < 2_500
    card.get_by_role("button", name="Show all of it").click()
    assert len(card.inner_text()) > 100_000
    bob.client.deny(dispatch_id, call["request_id"])


def test_nothing_is_wider_than_the_window(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    dispatch_id = alice.client.send(bob.email, "A" * 300 + " task with a long word")["dispatch_id"]
    alice.state_of(dispatch_id, "pending")
    tab = new_tab(bob)
    tab.open()
    for path in ("/inbox", f"/dispatches/{dispatch_id}", "/contacts", f"/contacts/{alice.email}", "/invitations",
                 "/compose", "/history", "/health", "/approvals", "/sent", "/settings", "/setup"):  # fmt: skip
        tab.page.set_viewport_size({"width": 320, "height": 800})
        tab.go(path)
        settled(tab)
        for width in (320, 360, 1600):
            tab.page.set_viewport_size({"width": width, "height": 800})
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
