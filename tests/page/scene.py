"""Every view of the page with something in it: what the screenshots show and axe-core looks at. No tests here."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.page.browser import Tab
from tests.system.world import Broker, Person, World, connect

WIDTHS = {"narrow": 320, "wide": 1280}
LOOKS = (("light", "narrow"), ("dark", "wide"), ("light", "wide"), ("dark", "narrow"))
"""Colour scheme and width. In the first two each of both is seen once."""
FIXED = '''"""Adding up what is on a till receipt. Prices in cents."""

CURRENCY = "EUR"


def line(name, price):
    """Return one line of a receipt."""
    return f"{name:<24}{price / 100:>8.2f} {CURRENCY}"


def receipt(items):
    """Return all lines of a receipt."""
    return "\\n".join(line(name, price) for name, price in items)


def total(prices, discount_percent=0):
    """Return the sum of the prices, less the discount."""
    whole = sum(prices)
    return whole - whole * discount_percent // 100
'''


REPLY = """## What was wrong

The discount was divided by **10** where **100** is meant, so every total was *too low*.
[till.py](https://example.org/till.py) is attached, corrected; `total()` is the only function that changed.

| items | discount | before | after |
|:------|---------:|-------:|------:|
| 2     |      5 % | 9.95   | 18.91 |
| 12    |     10 % | 0.00   | 107.40 |

```python
def total(prices, discount_percent=0):
    whole = sum(prices)
    return whole - whole * discount_percent // 100  # per cent
```

1. Look at the change in `till.py`.
2. Run the tests:
   - `pytest -q` on your side
   - ~~the old script~~ is no longer needed

> Prices stay in cents.
"""


def dots(width: int, height: int) -> bytes:
    """Return a picture, as PNG, with something to see in it."""
    rows = b"".join(
        b"\0" + b"".join(bytes((x * 255 // width, 90 + y * 120 // height, 140)) for x in range(width))
        for y in range(height)
    )
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


class Scene(NamedTuple):
    """Bob, with something in every view, and the addresses of what he can look at."""

    bob: Person
    carol: Person
    waiting: str
    done: str
    pending: str
    sent: str

    def views(self) -> dict[str, str]:
        """Return the views: name → address."""
        return {
            "inbox": "/inbox",
            "approvals": "/approvals",
            "sent": "/sent",
            "contacts": "/contacts",
            "contact": "/contacts/alice@example.org",
            "invitations": "/invitations",
            "compose": "/compose",
            "history": "/history",
            "health": "/health",
            "settings": "/settings",
            "setup": "/setup",
            "dispatch-pending": f"/dispatches/{self.pending}",
            "dispatch-approval": f"/dispatches/{self.waiting}",
            "dispatch-done": f"/dispatches/{self.done}",
            "dispatch-sent": f"/dispatches/{self.sent}",
            "search": "/history?q=alice",
            "nothing": "/contacts/nobody@example.org",
        }


def set_up(world: World) -> Scene:
    """Make people, edges, dispatches in several states, a call that waits, a stored rule, and open invitations."""
    alice, bob, carol, dave = world.people_named("alice", "bob", "carol", "dave")
    shop = bob.home / "projects" / "till"
    shop.mkdir(parents=True, exist_ok=True)
    (shop / "till.py").write_text(FIXED.replace("// 100", "// 10").replace("EUR", "euro"))
    connect(alice, bob, paths=[str(shop)])
    connect(bob, alice)
    connect(carol, bob, tools="Read,Glob,Grep")
    bob.client.name_contact(alice.email, "Alice")
    dave.client.invite(bob.email)
    bob.client.invite("erin@example.org")

    picture = base64.b64encode(dots(320, 120)).decode()
    bob.will(
        {"say": "I look at the sum first."},
        {"tool": "Read", "input": {"file_path": "till.py"}},
        {"tool": "Bash", "input": {"command": "git status"}},
        {"tool": "Write", "input": {"file_path": "/dispatch/out/till.py", "content": FIXED}},
        {"tool": "Write", "input": {"file_path": "till.py", "content": FIXED}},
        {"tool": "Write", "input": {"file_path": "conftest.py", "content": "import till\n"}},
        {"tool": "Bash", "input": {"command": f"base64 -d > /dispatch/out/totals.png <<'END'\n{picture}\nEND"}},
        {"tool": "Bash", "input": {"command": "rm -rf receipts"}},
        {"say": REPLY},
    )
    done = run(alice, bob, "Why is every total with a discount wrong?", shop, answers=6)
    task = "Correct the discount in till.py, and tell me what was wrong."
    waiting = alice.client.send(bob.email, task)["dispatch_id"]
    alice.state_of(waiting, "pending")
    bob.client.accept(waiting, cwd=str(shop))
    bob.client.approve(waiting, bob.approval_of(waiting)["request_id"])
    bob.event_of(waiting, lambda event: "git status" in str(event.get("input")))  # by the rule that is stored now
    bob.approval_of(waiting)

    (alice.home / "receipts.csv").write_text("date,total\n2026-11-03,1990\n")
    pending = alice.client.send(
        bob.email,
        "Summarise what changed in the parser since Monday, in three sentences.",
        files=[str(alice.home / "receipts.csv")],
        project="till",
        links=["https://example.org/parser/changes"],
        deliverable="Three sentences, plain words.",
        background="We talked about it on Tuesday: the last line of a receipt went missing.",
    )["dispatch_id"]
    carol.client.send(bob.email, "Which tests fail on your machine?")
    sent = bob.client.send(alice.email, "Look up the date of the release.")["dispatch_id"]
    alice.state_of(pending, "pending")
    return Scene(bob, carol, waiting, done, pending, sent)


def run(alice: Person, bob: Person, task: str, folder: Path, *, answers: int) -> str:
    """Let a whole run happen: so many calls allowed, the second one always, and the one after them denied."""
    dispatch_id = str(alice.client.send(bob.email, task)["dispatch_id"])
    alice.state_of(dispatch_id, "pending")
    bob.client.accept(dispatch_id, cwd=str(folder))
    for number in range(answers):
        call = bob.approval_of(dispatch_id)
        bob.client.approve(dispatch_id, call["request_id"], grant="always" if number == 1 else "once")
    bob.client.deny(dispatch_id, bob.approval_of(dispatch_id)["request_id"], note="leave those where they are")
    bob.state_of(dispatch_id, "completed")
    return dispatch_id


def settled(tab: Tab) -> None:
    """Wait until a view has drawn what it asked for."""
    tab.page.locator("main:not([aria-busy=true]):not(:has(#loading, [aria-busy=true]))").wait_for()
    tab.page.wait_for_load_state("load")


def states(tab: Tab, scene: Scene) -> Iterator[str]:
    """Bring about what no address alone shows: forms that are open, a dialog, a toast. Yield the name of each."""

    def at(address: str) -> None:
        tab.show(address)
        settled(tab)

    at("/inbox")
    tab.page.keyboard.press("?")
    tab.page.get_by_role("dialog").wait_for()
    yield "shortcuts"
    tab.page.keyboard.press("Escape")
    if tab.page.locator("#more").is_visible():
        tab.page.locator("#more").click()
        yield "more"
    at("/invitations")
    tab.page.get_by_role("button", name="Choose what to permit").first.click()
    yield previewed(tab, "invitation-form")
    at("/contacts/alice@example.org")
    tab.page.get_by_role("button", name="Rename").click()
    yield "alias"
    tab.page.keyboard.press("Escape")
    tab.page.get_by_role("button", name="Change what is permitted").click()
    yield previewed(tab, "scope-editor")
    tab.page.get_by_role("button", name="Revoke").click()
    tab.page.get_by_role("dialog").wait_for()
    yield "dialog"
    tab.page.keyboard.press("Escape")
    at(f"/dispatches/{scene.waiting}")
    tab.page.locator(".approval[data-armed]:not(.over)").wait_for()
    tab.page.keyboard.press("2")
    tab.page.locator(".choosing input").first.wait_for()
    yield "approval-rule"
    tab.page.keyboard.press("Escape")
    at(f"/dispatches/{scene.done}")
    tab.page.locator(".markdown").wait_for()
    for name in ("till.py", "totals.png"):
        tab.page.get_by_role("button", name=f"Preview {name}").click()
    tab.page.locator(".picture canvas").wait_for()
    for each in tab.page.locator(".trace summary, .receipt summary").all():
        each.click()
    tab.page.locator(".receipt .done").wait_for()
    yield "dispatch-unfolded"
    at("/sent")
    scene.carol.client.send(scene.bob.email, "And which of them fail on ours?")
    tab.page.locator(".toast").first.wait_for()
    yield "toast"
    key = tab.page.evaluate("localStorage.getItem('dispatch-page-key')")
    tab.page.evaluate("localStorage.clear()")
    tab.go("/inbox")
    tab.page.get_by_role("heading", name="Sign in").wait_for()
    yield "signed-out"
    tab.page.evaluate("key => localStorage.setItem('dispatch-page-key', key)", key)


def newcomer(world: World, name: str) -> Person:
    """Give somebody with a daemon and nothing else: no identity, no broker."""
    person = Person(name, world.folder / name, world.broker)
    world.people.append(person)
    person.state.write_private(person.state.config, json.dumps({"listen": ["/ip4/127.0.0.1/tcp/0"]}).encode())
    person.launch()
    assert person.program is not None
    person.program.line(r"not signed in yet, on 127\.0\.0\.1:(\d+)")
    return person


def beginnings(tab: Tab, broker: Broker) -> Iterator[str]:
    """Lead a newcomer's page from nothing to empty lists; yield the name of each state."""
    page = tab.page
    page.goto(tab.person.cli("open", "--no-browser", "--json").json["url"])
    page.get_by_label("The broker’s address").wait_for()
    yield "begin"
    page.get_by_label("The broker’s address").fill(broker.url)
    page.get_by_label("Your e-mail address").fill(tab.person.email)
    page.get_by_role("button", name="Get a code").click()
    code = page.get_by_label("Code").inner_text()
    yield "begin-code"
    broker.approve(code)
    page.get_by_label("The key").wait_for()
    page.get_by_text("The sandbox works").wait_for()
    yield "begin-run"
    page.get_by_role("button", name="Skip for now").click()
    yield "begin-people"
    page.get_by_role("button", name=re.compile("Try it")).click()
    yield "begin-try"
    page.evaluate("localStorage.removeItem('dispatch-setup-skipped')")
    tab.go("/inbox")
    for name in ("inbox", "approvals", "sent", "contacts", "invitations", "compose", "history"):
        tab.show(f"/{name}")
        settled(tab)
        page.locator("#needs .notice").wait_for()
        yield f"empty-{name}"


def previewed(tab: Tab, name: str) -> str:
    """Pick what shows the most of a form for a scope, and wait until it says what that would permit."""
    tab.page.locator("fieldset.power").get_by_label("Choose yourself").check()
    tab.page.locator("fieldset.custom input").first.check()
    tab.page.locator(".preview li").first.wait_for()
    return name


def look(tab: Tab, scheme: str, width: str) -> None:
    """Have this colour scheme and width."""
    tab.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    tab.page.set_viewport_size({"width": WIDTHS[width], "height": 900})


def shots(tab: Tab, scene: Scene, scheme: str, width: str) -> Iterator[str]:
    """Show every view and state in this colour scheme and width; yield the name of each while it is shown."""
    look(tab, scheme, width)
    tab.go("/inbox")
    settled(tab)
    for name, address in scene.views().items():
        tab.show(address)
        settled(tab)
        yield name
    yield from states(tab, scene)
