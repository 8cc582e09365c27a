"""`make tapes`: what the main commands show on terminals of 80 and of 40 columns, as text and as SVG, into a folder.

Real commands of a real daemon, on a pty; rich draws what they wrote.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from tests.cli.test_terminal import Terminal
from tests.page.scene import Scene, set_up
from tests.system.world import Person, World

WIDTHS = (80, 40)
ASKED = "Your answer?"


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


class Dialog(NamedTuple):
    """A command that asks: whose, its words, and what is typed after which words."""

    person: Person
    words: list[str]
    answers: list[tuple[str, str]]


def commands(scene: Scene) -> dict[str, list[str]]:
    """The commands that are played and ask nothing: name → words."""
    return {
        "overview": [],
        "help": ["--help"],
        "help-send": ["help", "send"],
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
        "near-miss": ["status", scene.done[-8:-1] + ("1" if scene.done.endswith("0") else "0")],
    }


def dialogs(scene: Scene, world: World, columns: int) -> dict[str, Dialog]:
    """The commands that ask, each with something to ask about that was not answered at another width."""
    alice = next(person for person in world.people if person.email.startswith("alice@"))
    inviter = world.person(f"inviter{columns}")
    newcomer = Person(f"newcomer{columns}", world.folder / f"newcomer{columns}", world.broker)
    for name in ("till", "shop", "parser", "api"):
        (newcomer.home / "code" / name / ".git").mkdir(parents=True)
    task = alice.client.send(scene.bob.email, "Correct the discount in till.py.")["dispatch_id"]
    alice.state_of(task, "pending")
    return {
        "setup": Dialog(
            newcomer,
            ["setup"],
            [("skip): ", "\n"), ("Enter: 1] ", "3\n"), ("skip): ", "\n"), ("none): ", "\n")],
        ),
        "join": Dialog(
            scene.bob,
            ["join", str(inviter.client.invite(scene.bob.email)["page"])],
            [("Which? ", "1\n"), ("Approval mode?", "\n"), ("time)", "~/projects/till\n")],
        ),
        "accept": Dialog(
            scene.bob,
            ["accept", task],
            [
                (ASKED, "1\n"),
                (ASKED, "r\n"),
                (ASKED, "4 use the copy\n"),
                (ASKED, "2\n"),
                ("none] ", "\n"),
                (ASKED, "5\n"),
            ],
        ),
    }


def play(scene: Scene, world: World, columns: int) -> dict[str, tuple[list[str], str]]:
    """Play all commands; return the words of each, and what it showed."""
    asking = dialogs(scene, world, columns)
    every = {name: Dialog(scene.bob, words, []) for name, words in commands(scene).items()} | asking
    shown = {}
    for name, dialog in every.items():
        tape = Tape(dialog.person, *dialog.words, columns=columns)
        try:
            for words, answer in dialog.answers:
                tape.until(words)
                tape.type(answer)
            tape.end()
        finally:
            tape.close()
        shown[name] = (dialog.words, tape.played)
    return shown


def main(folder: Path) -> None:
    """Write NAME-WIDTH.txt and NAME-WIDTH.svg for each into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dispatch-tapes-") as temporary:
        world = World(Path(temporary))
        try:
            scene = set_up(world)
            for columns in WIDTHS:
                for name, (words, played) in play(scene, world, columns).items():
                    text = Text.from_ansi(played)
                    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
                    console.print(text)
                    line = " ".join(["dispatch", *words])
                    (folder / f"{name}-{columns}.txt").write_text(f"$ {line}\n{text.plain}\n", "utf-8")
                    console.save_svg(str(folder / f"{name}-{columns}.svg"), title=line)
        finally:
            world.close()
    print(f"{len(list(folder.glob('*.svg')))} tapes in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
