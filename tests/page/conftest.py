"""One browser and one world for the tests of the page; two people in it, as the system tests have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.page.browser import WITHIN_MS, Chromium, Tab, chromium, killed_if_stuck, tab
from tests.system.conftest import _pair, pair, world
from tests.system.world import Person

__all__ = ["_pair", "pair", "world"]

Opener = Callable[..., Tab]


@pytest.fixture(scope="session")
def _chromium() -> Iterator[Chromium]:
    expect.set_options(timeout=WITHIN_MS)
    with chromium() as made:
        yield made


@pytest.fixture
def browser(_chromium: Chromium) -> Iterator[Browser]:
    with killed_if_stuck():
        yield _chromium.running()


@pytest.fixture
def new_tab(browser: Browser) -> Iterator[Opener]:
    """Make tabs, each of a browser that knows nothing of the others; whatever went wrong in one fails the test."""
    with ExitStack() as stack:
        made: list[Tab] = []

        def make(person: Person, **options: Any) -> Tab:
            opened = stack.enter_context(tab(browser, person, **options))
            made.append(opened)
            return opened

        yield make
        for each in made:
            each.check()
