"""`make picture`: docs/page.svg, which the README shows, out of the real page with a call that waits.

A drawing of the page's own elements and styles (SVG's foreignObject), so that it is sharp at any size, dark where its
reader's browser is, and small. Programs that draw SVG without a browser's help show nothing of it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.page.browser import chromium, tab
from tests.page.scene import set_up, settled
from tests.system.world import World

WIDTH, HEIGHT = 1200, 800
_DRAW = """async ([width, height]) => {
    const styles = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules].map((rule) => rule.cssText));
    const body = document.body.cloneNode(true);
    body.querySelectorAll("script, link, template, [hidden]:not(svg)").forEach((each) => each.remove());
    const icon = await (await fetch(new URL("icon.svg", document.styleSheets[0].href))).text();
    const sheet = styles.join("\\n").replaceAll('url("icon.svg")', `url("data:image/svg+xml;base64,${btoa(icon)}")`);
    const make = (space, name, ...inside) => {
        const made = document.createElementNS(space, name);
        made.append(...inside);
        return made;
    };
    const html = (name, ...inside) => make("http://www.w3.org/1999/xhtml", name, ...inside);
    const svg = (name, ...inside) => make("http://www.w3.org/2000/svg", name, ...inside);
    const page = html("html", html("head", html("style", sheet)), body);
    for (const { name, value } of document.documentElement.attributes) page.setAttribute(name, value);
    const frame = svg("foreignObject", page);
    frame.setAttribute("width", width);
    frame.setAttribute("height", height);
    const drawing = svg("svg", frame);
    drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    drawing.setAttribute("width", width);
    drawing.setAttribute("height", height);
    return new XMLSerializer().serializeToString(drawing);
}"""


def main(file: Path) -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory(prefix="dispatch-picture-") as temporary:
        world = World(Path(temporary))
        try:
            scene = set_up(world)
            with (
                chromium() as made,
                tab(made.running(), scene.bob, viewport={"width": WIDTH, "height": HEIGHT}) as shown,
            ):
                shown.open(scene.waiting)
                settled(shown)
                shown.page.locator(".approval button:enabled").first.wait_for()
                shown.page.locator(".approval .is-keyword").first.wait_for()  # the colours come after the call
                drawn = shown.page.evaluate(_DRAW, [WIDTH, HEIGHT]).replace(str(scene.bob.home), "/home/bob")
                file.write_text(f"{drawn}\n", "utf-8")
        finally:
            world.close()
    print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
