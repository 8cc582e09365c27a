"""A real browser for the tests of the page: Debian's Chromium, driven by Playwright. What it must show is elsewhere.

Everything that reaches it is from 127.0.0.1; whatever asks for anything else fails the test.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import axe_playwright_python
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


@contextmanager
def chromium() -> Iterator[tuple[Playwright, Browser]]:
    """Start the browser; skip the test where it is not installed, fail where it must be (CI)."""
    if shutil.which(CHROMIUM) is None:
        pytest.fail(f"there is no {CHROMIUM}: as root, apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield playwright, browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Browser, person: Person, **options: Any) -> Iterator[Tab]:
    """Give a tab of a browser of its own, that knows nothing of others."""
    context: BrowserContext = browser.new_context(accept_downloads=True, **options)
    try:
        yield Tab(context.new_page(), person)
    finally:
        context.close()
