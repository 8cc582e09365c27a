"""For everybody: axe-core finds nothing in any view, in either colour scheme, narrow or wide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.page.conftest import Opener
from tests.page.scene import Scene, set_up, shots
from tests.system.world import World


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A world of its own: the people of the others have been through much."""
    made = World(tmp_path)
    try:
        yield set_up(made)
    finally:
        made.close()


def test_axe_finds_nothing(scene: Scene, new_tab: Opener) -> None:
    """WCAG 2.2 A and AA, and good practice. Seen to fail with a foot outside all landmarks, and with scrolled text
    that no key reached."""
    tab = new_tab(scene.bob)
    tab.open()
    found = {}
    for name, scheme, width in shots(tab, scene):
        if violations := tab.axe():
            found[name, scheme, width] = violations
        assert tab.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), (name, width)
    assert found == {}, "\n".join(sorted({line for lines in found.values() for line in lines}))
