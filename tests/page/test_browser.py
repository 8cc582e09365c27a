"""The browser of these tests: one that is stuck fails the test that waits for it, and no other."""

from __future__ import annotations

import pytest
from playwright.sync_api import Error

from tests.page.browser import Chromium, killed_if_stuck


def test_a_call_that_hangs_raises_and_the_next_test_has_another_browser(_chromium: Chromium) -> None:
    stuck = _chromium.running()
    page = stuck.new_page()
    with killed_if_stuck(seconds=0.5), pytest.raises(Error, match="has been closed"):
        page.evaluate("new Promise(() => {})")
    another = _chromium.running()
    assert another is not stuck
    page = another.new_page()
    assert page.evaluate("1 + 1") == 2
    page.close()
