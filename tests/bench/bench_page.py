"""What a person waits for at the page, in Debian's Chromium: an inbox of 1,000, a live event, a trace of 10,000 events.

An inbox is there when its first rows are painted: the frame that shows them is done, since the start of the navigation.
What the browser calls its first paint (first-contentful-paint) may be of "Loading…" alone, and is shown beside it. A
live event is timed from the commit in Bob's store until the page has the row. Smoothness is the time from one frame to
the next while the trace is scrolled from end to end, beside a page that holds nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing

from playwright.sync_api import Page

from peer.store import connection, trace
from tests.bench._pair import Watch, fill, pair
from tests.bench._table import Line, ms, p50, p95, show
from tests.page.browser import chromium, tab
from tests.system.world import Person

INBOX = 1_000
EVENTS = 10_000
ROUNDS = 7
GOAL_PAINT_MS, GOAL_EVENT_MS, GOAL_FRAME_MS = 300.0, 100.0, 50.0

PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
ROWS = """(() => {
  const watch = new MutationObserver(() => {
    if (!document.querySelector(".row")) return;
    watch.disconnect();
    // A frame's callbacks run before it is painted, a message that they post is taken after.
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => { window.rowsPainted = performance.now(); };
      port2.postMessage(null);
    });
  });
  watch.observe(document, { childList: true, subtree: true });
})()"""
"""Runs before the page's own script, and leaves when the first rows were painted in `rowsPainted`."""
FRAMES = """async () => {
  const scroller = document.scrollingElement, waits = [];
  let before = performance.now();
  for (let step = 0; step < 120; step += 1) {
    scroller.scrollTop = (step / 119) * scroller.scrollHeight;
    const now = await new Promise((done) => requestAnimationFrame(done));
    waits.push(now - before);
    before = now;
  }
  return waits.slice(2);
}"""
SEEN = """(id) => new Promise((done) => {
  const look = () => document.body.innerHTML.includes(id) ? done(Date.now()) : requestAnimationFrame(look);
  look();
})"""


def fill_trace(bob: Person, dispatch_id: str) -> None:
    """Put many events in the trace of a dispatch, as a long run leaves them; Bob's daemon is down meanwhile."""
    events = [
        json.dumps({"kind": "reasoning", "text": f"line {n} " + "word " * (n % 90), "at": 1_800_000_000_000})
        for n in range(EVENTS)
    ]
    with closing(connection.connect(bob.state.store)) as db, connection.writing(db):
        trace.add_events(db, dispatch_id, 1, events)


def paints(page: Page, address: str) -> tuple[float, float]:
    """Return the seconds to the browser's first paint of anything, and until the first rows are painted."""
    page.goto("about:blank")
    page.goto(address)
    rows = float(page.wait_for_function("() => window.rowsPainted").json_value())
    painted = float(page.wait_for_function(PAINTED).json_value())
    return painted / 1e3, rows / 1e3


def main() -> None:
    with pair() as (alice, bob), chromium() as made:
        bob.stop()
        alice.stop()
        fill(alice, bob, INBOX)
        alice.start()
        bob.start()
        with tab(made.running(), bob) as opened:
            page = opened.page
            page.add_init_script(ROWS)
            opened.open()
            address = page.url
            firsts, rows = zip(*(paints(page, address) for _ in range(ROUNDS)), strict=True)
            watch = Watch(bob)
            lives: list[float] = []
            for number in range(ROUNDS):
                sent = alice.client.send(bob.email, f"Live {number}")["dispatch_id"]
                stored = watch.until(sent, "pending")
                shown = page.evaluate(SEEN, sent)
                lives.append(max(0.0, shown / 1e3 - (time.time() - (time.perf_counter() - stored))))
            watch.close()
            bob.client.decline(sent)
            bob.stop()
            fill_trace(bob, sent)
            bob.start()
            opened.open(sent)
            page.locator(".trace > li").first.wait_for()
            frames = [wait / 1e3 for wait in page.evaluate(FRAMES)]
            drawn = page.locator(".trace > li").count()
            page.goto("about:blank")
            page.evaluate("() => { document.body.style.height = '100000px'; }")
            empty = [wait / 1e3 for wait in page.evaluate(FRAMES)]
    slow = p95(frames)

    def line(what: str, seconds: Sequence[float], goal: float) -> Line:
        return Line(what, ms(seconds), None, "", f"<= {goal:g} ms", p50(seconds) * 1e3 <= goal)

    show(
        f"An inbox of {INBOX:,}, {ROUNDS} times",
        [
            Line("navigation -> first paint of anything", ms(firsts)),
            line("navigation -> the first rows are painted", rows, GOAL_PAINT_MS),
            line("in the store -> on the page", lives, GOAL_EVENT_MS),
        ],
    )
    show(
        f"A trace of {EVENTS:,} events, scrolled through",
        [
            Line("from frame to frame, an empty page", ms(empty)),
            Line(
                "from frame to frame",
                ms(frames),
                p50(frames) / p50(empty),
                "an empty page",
                f"p95 <= {GOAL_FRAME_MS:g} ms",
                slow * 1e3 <= GOAL_FRAME_MS,
            ),
            Line("elements drawn", str(drawn)),
        ],
    )


if __name__ == "__main__":
    main()
