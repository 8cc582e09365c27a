"""A real browser for the tests of the page: Debian's Chromium, driven by Playwright. What it must show is elsewhere.

Everything that reaches it is from 127.0.0.1; whatever asks for anything else fails the test.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import axe_playwright_python
import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request, sync_playwright

from tests.conftest import HANG
from tests.system.world import Person

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # A key scrolls by an animation, which goes on for its rest after a script has scrolled elsewhere.
    "--disable-smooth-scrolling",
]
WITHIN_MS = HANG * 1000
STUCK = 2 * HANG
"""Seconds after which the browser is taken to be stuck: every wait that Playwright bounds has ended by then."""
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")


class Tab:
    """One tab of a person's browser, and all that went wrong in it."""

    def __init__(self, page: Page, person: Person) -> None:
        self.page = page
        self.person = person
        self.wrong: list[str] = []
        self._own = f"http://127.0.0.1:{port(person)}/"
        page.set_default_timeout(WITHIN_MS)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        # A refused request is logged by the browser too; whether it was right is the test's to say.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.wrong.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self._own, "blob:")):
            self.wrong.append(f"a request to {request.url}")

    def go(self, path: str) -> None:
        """Open an address of the page."""
        self._own = f"http://127.0.0.1:{port(self.person)}/"
        self.page.goto(self._own + path.lstrip("/"))

    def show(self, path: str) -> None:
        """Show another view in the document that is there, as following a link does."""
        self.page.evaluate(
            "path => { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')); }", path
        )

    def open(self, *arguments: str) -> None:
        """Come in as `dispatch open` leads."""
        self._own = f"http://127.0.0.1:{port(self.person)}/"
        self.page.goto(self.person.cli("open", "--no-browser", "--json", *arguments).json["url"])
        self.page.locator("#nav").wait_for()

    def check(self) -> None:
        """Fail if anything went wrong in this tab."""
        assert self.wrong == []

    def axe(self) -> list[str]:
        """Return the violations of WCAG 2.2 A and AA, and of good practice, that axe-core finds now."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE)
        found: Any = self.page.evaluate("async () => (await axe.run({ resultTypes: ['violations'] })).violations")
        return [f"{item['id']}: {node['target']} {node['failureSummary']}" for item in found for node in item["nodes"]]


def port(person: Person) -> int:
    """Return the port that a person's daemon serves."""
    return int(json.loads(person.state.daemon_json.read_bytes())["port"])


class Chromium:
    """The browser that all tests of one process share."""

    def __init__(self, playwright: Playwright) -> None:
        self._type = playwright.chromium
        self._started: Browser | None = None

    def running(self) -> Browser:
        """Return the browser; start it, or another where it was killed."""
        if self._started is None or not self._started.is_connected():
            self._started = self._type.launch(executable_path=CHROMIUM, args=FLAGS)
        return self._started

    def close(self) -> None:
        """End the browser, if there is one."""
        if self._started is not None:
            self._started.close()


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Have a browser at hand; fail where it is not installed."""
    if shutil.which(CHROMIUM) is None:
        pytest.fail(f"there is no {CHROMIUM}: as root, apt-get install chromium")
    with sync_playwright() as playwright, closing(Chromium(playwright)) as made:
        yield made


@contextmanager
def killed_if_stuck(seconds: float = STUCK) -> Iterator[None]:
    """Kill the browser if the block lasts longer than this, so that the call that hangs raises where it stands.

    Playwright bounds the waits for what a page shows. Evaluating, keys, opening and closing it does not bound.
    """
    timer = threading.Timer(seconds, _kill_browsers)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _kill_browsers() -> None:
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.name().startswith("chrom"):
                process.kill()


@contextmanager
def tab(browser: Browser, person: Person, **options: Any) -> Iterator[Tab]:
    """Give a tab of a browser of its own, that knows nothing of others."""
    context: BrowserContext = browser.new_context(accept_downloads=True, **options)
    try:
        yield Tab(context.new_page(), person)
    finally:
        # A route's handler that is still at work would raise in whatever test comes next.
        for page in context.pages:
            page.unroute_all(behavior="ignoreErrors")
        context.close()
