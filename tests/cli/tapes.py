"""`make tapes`: what the main commands show on terminals of 80 and of 40 columns, as text and as SVG, into a folder.

Real commands of a real daemon, on a pty; rich draws what they wrote.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.cli.test_terminal import Terminal
from tests.page.scene import Scene, set_up
from tests.system.world import Person, World

WIDTHS = (80, 40)


class Tape(Terminal):
    """A command of somebody's on a terminal. `played` is all that it has shown."""

    def __init__(self, person: Person, *args: str, columns: int) -> None:
        super().__init__(*args, columns=columns, environment=person.environment | {"TERM": "xterm-256color"})
        self.played = ""

    def until(self, words: str) -> str:
        before = super().until(words)
        self.played += before + words
        return before

    def end(self) -> int:
        status = super().end()
        self.played += self.shown
        return status


def commands(scene: Scene) -> dict[str, list[str]]:
    """The commands that are played: name → words."""
    return {
        "overview": [],
        "help": ["--help"],
        "inbox": ["inbox"],
        "sent": ["sent"],
        "contacts": ["contacts"],
        "invitations": ["invitations"],
        "trust": ["trust", "show", "alice@example.org"],
        "status": ["status", scene.done],
        "changes": ["changes", scene.done, "--diff"],
        "approvals": ["approvals", "--list"],
        "doctor": ["doctor"],
        "mistake": ["send", "alcie@example.org", "Look"],
    }


def play(scene: Scene, columns: int) -> dict[str, str]:
    """Play all commands; return what each showed."""
    shown = {}
    for name, words in commands(scene).items():
        tape = Tape(scene.bob, *words, columns=columns)
        try:
            tape.end()
        finally:
            tape.close()
        shown[name] = tape.played
    return shown


def main(folder: Path) -> None:
    """Write NAME-WIDTH.txt and NAME-WIDTH.svg for each into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dispatch-tapes-") as temporary:
        world = World(Path(temporary))
        try:
            scene = set_up(world)
            for columns in WIDTHS:
                for name, played in play(scene, columns).items():
                    text = Text.from_ansi(played)
                    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
                    console.print(text)
                    words = " ".join(["dispatch", *commands(scene)[name]])
                    (folder / f"{name}-{columns}.txt").write_text(f"$ {words}\n{text.plain}\n", "utf-8")
                    console.save_svg(str(folder / f"{name}-{columns}.svg"), title=words)
        finally:
            world.close()
    print(f"{len(list(folder.glob('*.svg')))} tapes in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
