"""`make screenshots`: every view of the page, dark and light, narrow and wide, as PNG files into a folder."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.page.browser import chromium, tab
from tests.page.scene import LOOKS, beginnings, look, newcomer, set_up, shots
from tests.system.world import World


def main(folder: Path) -> None:
    """Write VIEW-SCHEME-WIDTH.png for each into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dispatch-screenshots-") as temporary:
        world = World(Path(temporary))
        try:
            scene = set_up(world)
            with chromium() as made, tab(made.running(), scene.bob) as shown:
                shown.open()
                for scheme, width in LOOKS:
                    for name in shots(shown, scene, scheme, width):
                        shown.page.wait_for_timeout(300)  # for what arrives by the live stream; no picture asserts
                        shown.page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)
            with chromium() as made, tab(made.running(), newcomer(world, "zoe")) as shown:
                for name in beginnings(shown, world.broker):
                    for scheme, width in LOOKS:
                        look(shown, scheme, width)
                        shown.page.wait_for_timeout(300)
                        shown.page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)
        finally:
            world.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
