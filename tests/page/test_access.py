"""For everybody: axe-core finds nothing in any view or state, in either colour scheme, narrow or wide."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Route

from tests.page.conftest import Opener
from tests.page.scene import LOOKS, Scene, set_up, settled, shots
from tests.system.world import World

ASKS = re.compile(r"/v1/(?!page/(session|stream))")
"""What a view asks for; not who this is, which the page needs before it shows any."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A world of its own, which these tests only look at: the people of the others have been through much."""
    made = World(tmp_path_factory.mktemp("scene"))
    try:
        yield set_up(made)
    finally:
        made.close()


@pytest.mark.parametrize(
    ("scheme", "width"), [pytest.param(*look, marks=() if look == LOOKS[1] else pytest.mark.long) for look in LOOKS]
)
def test_axe_finds_nothing(scene: Scene, new_tab: Opener, scheme: str, width: str) -> None:
    """WCAG 2.2 A and AA, and good practice. Seen to fail with a foot outside all landmarks, with scrolled text
    that no key reached, and with a toast that is hard to read."""
    tab = new_tab(scene.bob)
    tab.open()
    found = {}
    for name in shots(tab, scene, scheme, width):
        if violations := tab.axe():
            found[name] = violations
        assert tab.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), name
    assert found == {}, "\n".join(sorted({line for lines in found.values() for line in lines}))


@pytest.mark.long
def test_a_view_that_still_loads_is_whole_and_says_so(scene: Scene, new_tab: Opener) -> None:
    """Seen to fail with a view that had no heading until its answer came, and with one that was never called busy."""
    tab = new_tab(scene.bob)
    tab.open()
    held: list[Route] | None = None

    def hold(route: Route) -> None:
        if held is None:
            route.continue_()
        else:
            held.append(route)

    tab.page.route(ASKS, hold)
    found = {}
    for name, address in scene.views().items():
        waiting = held = []
        tab.go(address)
        if name != "approvals":  # shows what the stream tells
            tab.page.locator("main[aria-busy=true]").wait_for()
        if violations := tab.axe():
            found[name] = violations
        held = None
        for route in waiting:
            route.continue_()
        settled(tab)
    assert found == {}
