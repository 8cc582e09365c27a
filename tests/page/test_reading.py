"""Reading one dispatch and deciding about its calls: what is seen first, and what a run cannot make of the page."""

from __future__ import annotations

import base64
import re

import pytest
from playwright.sync_api import Locator, expect

from tests.page.browser import Tab
from tests.page.conftest import Opener
from tests.page.scene import dots
from tests.system.world import Person

Pair = tuple[Person, Person]
REPLY = """# Done

I **fixed** it: [look](https://evil.example/x "now") ![a cat](https://evil.example/cat.png) <img src=x onerror=hacked()>

| a | b |
|---|--:|
| 1 | 2 |

```python
import os  # <b>
```

7. \u202eseven
"""
BUILT = {"br", "code", "div", "figcaption", "figure", "h3", "li", "ol", "p", "pre", "span", "strong"} | {
    "table",
    "tbody",
    "td",
    "th",
    "tr",
}
"""All that a page may make of that reply."""
SVG = '<svg xmlns="http://www.w3.org/2000/svg" onload="hacked()"><text>a</text></svg>'


def shown(tab: Tab, name: str) -> Locator:
    """Press Preview of a returned file; return where it is shown."""
    item = tab.page.locator(".files li", has_text=name)
    item.get_by_role("button", name=f"Preview {name}").click()
    place = item.locator(".look")
    expect(place.locator("> *").first).to_be_visible()
    return place


@pytest.fixture
def done(pair: Pair) -> str:
    """A dispatch whose run was denied a call, claims more, and returned files of several kinds."""
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "manual"})
    picture = base64.b64encode(dots(40, 20)).decode()
    bob.will(
        {"tool": "Write", "input": {"file_path": "/dispatch/out/plan.svg", "content": SVG}},
        {"tool": "Bash", "input": {"command": f"cd /dispatch/out\necho {picture} | base64 -d > dots.png\n"
                                              "head -c 9 /dev/zero > zeros.bin"}},
        {"tool": "Bash", "input": {"command": "rm -rf build"}},
        {"say": REPLY},
    )  # fmt: skip
    identity = str(alice.client.send(bob.email, "Mend the build\nand say how.")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity)
    for answer in (bob.client.approve, bob.client.approve, bob.client.deny):
        answer(identity, bob.approval_of(identity)["request_id"])
    bob.state_of(identity, "completed")
    alice.state_of(identity, "completed")
    return identity


@pytest.mark.long
def test_what_was_counted_stands_above_a_reply_that_is_only_shown(pair: Pair, new_tab: Opener, done: str) -> None:
    """A reply as Markdown and as it was written, a picture by its bytes and not by its name."""
    alice, bob = pair
    tab = new_tab(alice)
    tab.open(done)
    expect(tab.page.get_by_role("heading", name="Mend the build", exact=True)).to_be_visible()
    expect(tab.page.locator(".people-of")).to_have_text(f"To {bob.email}")
    expect(tab.page.locator(".counts")).to_have_text(
        re.compile(r"^no file changed · 1 call denied · \d turns · [\d.]+ s$")
    )
    expect(tab.page.locator(".result .care")).to_contain_text(
        "1 call was denied and no file was changed. Do not rely on the reply alone."
    )

    reply = tab.page.locator(".markdown")
    expect(reply.get_by_role("heading", name="Done")).to_be_visible()
    expect(reply.locator("strong")).to_have_text("fixed")
    expect(reply.locator("td").nth(1)).to_have_text("2")
    expect(reply.locator(".is-keyword")).to_have_text("import")
    expect(reply.locator("li")).to_have_text("<U+202E>seven")
    assert reply.locator("li").evaluate("each => each.value") == 7
    for words in (
        "look (https://evil.example/x) “now”",
        "[picture: a cat (https://evil.example/cat.png)]",
        "<img src=x",
    ):
        expect(reply).to_contain_text(words)
    kinds = reply.evaluate("each => [...new Set([...each.querySelectorAll('*')].map((one) => one.localName))].sort()")
    assert set(kinds) <= BUILT
    tab.page.get_by_role("button", name="Show as written").click()
    expect(tab.page.locator(".reply pre")).to_contain_text("# Done")

    # Pictures by their bytes alone, and as dots alone; what is a document is text.
    drawn = shown(tab, "dots.png").get_by_role("img", name="Picture: dots.png")
    middle = "each => [each.width, ...each.getContext('2d').getImageData(20, 10, 1, 1).data]"
    assert drawn.evaluate(middle) == [40, 127, 150, 140, 255]
    expect(shown(tab, "plan.svg")).to_contain_text('onload="hacked()"')
    expect(shown(tab, "zeros.bin")).to_contain_text(f"dispatch fetch {done}")

    tab.page.get_by_text("Receipt: signed proof").click()
    expect(tab.page.locator(".receipt .done")).to_contain_text("of both devices hold")
    with tab.page.expect_download() as saved:
        tab.page.get_by_role("button", name="Save the receipt").click()
    assert alice.cli("verify-receipt", str(saved.value.path()), "--json").json["verified"]

    # One line a call, with all of it behind that, and words in it that the browser finds.
    call = tab.page.locator(".trace > li", has_text="rm -rf build")
    expect(call).to_have_text(re.compile("Run rm -rf builddenied"))
    call.locator("summary").click()
    expect(call).to_contain_text("Denied by a person")
    tab.page.get_by_role("link", name="Send again").click()
    expect(tab.page.get_by_label("Task", exact=True)).to_have_value("Mend the build\nand say how.")
    expect(tab.page.get_by_label("To", exact=True)).to_have_value(bob.email)


@pytest.mark.parametrize("width", [360, pytest.param(320, marks=pytest.mark.long)])
def test_the_answers_stay_in_sight_on_a_phone(pair: Pair, new_tab: Opener, width: int) -> None:
    """The bar stands at the foot of the window, not where the card ends."""
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "manual"})
    bob.will({"tool": "Write", "input": {"file_path": "out/long.txt", "content": "".join(f"{n}\n" for n in range(50))}})
    dispatch_id = str(alice.client.send(bob.email, "Count\nto fifty.")["dispatch_id"])
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id)
    bob.approval_of(dispatch_id)
    tab = new_tab(bob, viewport={"width": width, "height": 740})
    tab.open()
    tab.go("/approvals")
    card = tab.page.locator(".approval[data-armed]")
    expect(card.get_by_role("heading", name="Write out/long.txt, 50 lines")).to_be_visible()
    expect(card.locator(".where")).to_contain_text("step 1 of this run")
    expect(card.get_by_role("link", name="Count", exact=True)).to_have_attribute("href", f"/dispatches/{dispatch_id}")
    expect(card.locator("dl")).to_have_count(0)  # the raw call is not drawn twice
    for place in (0, "document.documentElement.scrollHeight"):
        tab.page.evaluate(f"scrollTo(0, {place})")
        for button in card.locator(".answers button").all():
            box = button.bounding_box()
            assert (
                box is not None
                and box["x"] >= 0
                and box["x"] + box["width"] <= width
                and box["y"] + box["height"] <= 740
            )
    card.get_by_text("Raw call").click()
    expect(card.locator("dl")).to_contain_text("/out/long.txt")
    bob.client.deny(dispatch_id, bob.approval_of(dispatch_id)["request_id"])


@pytest.mark.long
def test_what_waits_for_somebody_who_is_away_says_so(pair: Pair, new_tab: Opener) -> None:
    alice, bob = pair
    alice.cli("alias", bob.email, "bobby")
    bob.stop()
    try:
        tab = new_tab(alice)
        tab.open(str(alice.client.send(bob.email, "When you are back")["dispatch_id"]))
        expect(tab.page.locator(".facts .state")).to_have_text("Waits until bobby is online")
        expect(tab.page.locator(".people-of")).to_contain_text(bob.email)
    finally:
        bob.start()
        alice.cli("alias", bob.email, "--remove")


def test_a_call_has_colours_and_hides_nothing_by_them(pair: Pair, new_tab: Opener) -> None:
    """The colours of the diff and of the command; a row with a hidden character shows it, and has none."""
    alice, bob = pair
    bob.client.edit_trust(alice.email, {"approval": "manual"})
    bob.will(
        {
            "tool": "Write",
            "input": {"file_path": "/dispatch/out/a.py", "content": "def a():\n    return 1\nb = '\u202ex'\n"},
        },
        {"tool": "Bash", "input": {"command": 'for each in a b; do\n  echo "$each"  # says it\ndone'}},
    )
    identity = str(alice.client.send(bob.email, "In colours")["dispatch_id"])
    alice.state_of(identity, "pending")
    bob.client.accept(identity)
    call = bob.approval_of(identity)
    tab = new_tab(bob)
    tab.open(identity)
    rows = tab.page.locator(".approval table.diff tr.added .code")
    expect(rows.nth(0).locator(".is-keyword")).to_have_text("def")
    expect(rows.nth(1).locator(".is-number")).to_have_text("1")
    expect(rows.nth(2)).to_have_text("b = '<U+202E>x'")
    expect(rows.nth(2).locator("span")).to_have_count(0)
    bob.client.approve(identity, call["request_id"])
    command = tab.page.locator(".approval .command pre")
    expect(command.locator(".is-keyword").first).to_have_text("for")
    expect(command.locator(".is-comment")).to_have_text("# says it")
    expect(command).to_have_text('for each in a b; do\n  echo "$each"  # says it\ndone')
    bob.client.cancel(identity)
