"""`dispatch` without a command: what waits for a decision here; before anything is set up, the first steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cli.app import App, Source
from cli.setup import state
from peer.client.blocking import Document

if TYPE_CHECKING:
    from peer.machine.setup_state import Obstacle, Part

PAGE = 200
"""Of each list; what is beyond is counted as "200 or more"."""


class Waiting(NamedTuple):
    """So many things of one kind that wait for the person, and the command that shows them."""

    name: str
    number: int
    what: str
    command: str

    @property
    def words(self) -> str:
        """Such as "2 dispatches to decide on"."""
        noun, _, rest = self.what.partition(" ")
        many = f"{self.number} or more" if self.number >= PAGE else str(self.number)
        plural = {"dispatch": "dispatches"}.get(noun, f"{noun}s")
        return f"{many} {noun if self.number == 1 else plural} {rest}"


def show(app: App) -> int:
    """Show it; exit code 0."""
    parts = state.look(app)
    missing = [part for part in parts if part.needed and not part.done]
    # Somebody who was signed in once has contacts and tasks of before, whatever is missing now.
    used = app.folder.store.exists()
    lacking = state.obstacle(app) if used else None
    waiting, obstacle = app.read(lambda source: _look(source, lacking)) if used else ([], None)
    if app.out.json:
        app.out.document(
            {
                "waiting": {each.name: each.number for each in waiting},
                "parts": [part._asdict() for part in parts],
                "cannot_run": obstacle._asdict() if obstacle else None,
            }
        )
        return 0
    if used:
        _show_waiting(app, waiting)
    if obstacle:
        app.out.line(
            f"no task can run on this machine: {obstacle.message}. To fix this: {obstacle.fix}", style="yellow"
        )
    if missing:
        _show_steps(app, parts)
    else:
        app.out.line(f"signed in as {parts[0].detail}; the daemon is running", style="dim")
    app.out.note("all commands: `dispatch help`")
    return 0


def _look(source: Source, lacking: Obstacle | None) -> tuple[list[Waiting], Obstacle | None]:
    """Return what waits, and what is `lacking` to run tasks, unless this machine only sends, or the daemon has it.

    A machine is to run tasks once somebody may dispatch to it, or a task waits on it.
    """
    waiting = _waiting(source)
    if lacking is None:
        return waiting, None
    asked = any(each.name == "decisions" for each in waiting) or any(
        row.get("direction") == "incoming" and row.get("status") in ("offered", "active")
        for row in source.contacts()["trust"]
    )
    # The daemon may have the key in its own environment. Without a daemon there is no `login`.
    has_it = asked and bool((source.whoami().get("runtime") or {}).get("login"))
    return waiting, lacking if asked and not has_it else None


def _waiting(source: Source) -> list[Waiting]:
    received = source.dispatches("received", limit=PAGE)["dispatches"]
    pending = source.dispatches("received", status="pending", limit=PAGE)["dispatches"]
    held = source.dispatches("received", status="held", limit=PAGE)["dispatches"]
    invitations = source.invitations(limit=PAGE)
    refused = [row for row in invitations["sent"] if row.get("progress") == "other_key"]
    counted = [
        Waiting("decisions", len(pending), "dispatch to decide on", "dispatch inbox"),
        Waiting("approvals", len(source.approvals()), "tool call to answer", "dispatch approvals"),
        Waiting("held", len(held), "result to release", "dispatch inbox --status held"),
        Waiting("changes", _with_changes(received), "run with changes to review", "dispatch inbox"),
        Waiting("invitations", len(invitations["received"]), "invitation to answer", "dispatch invitations"),
        Waiting("other_keys", len(refused), "answer to your invitation under a different key", "dispatch invitations"),
    ]
    return [each for each in counted if each.number]


def _with_changes(rows: list[Document]) -> int:
    return sum(bool(row.get("changes_waiting")) for row in rows)


def _show_waiting(app: App, waiting: list[Waiting]) -> None:
    if not waiting:
        app.out.line("nothing is waiting for you")
        return
    width = max(len(each.words) for each in waiting)
    for each in waiting:
        app.out.line(f"{each.words.ljust(width)}  `{each.command}`", style="bold")


def _show_steps(app: App, parts: list[Part]) -> None:
    if not parts[0].done:
        app.out.line("dispatch sends tasks to the agents of people who trust you, and runs theirs here if you agree.")
        app.out.line()
    app.out.line("To begin, run `dispatch setup`. It goes through these steps; you can also do each by itself:")
    for part in parts:
        mark = "✓" if part.done else "·"
        app.out.line(f"{mark} {part.name}: {part.detail if part.done else f'`{part.command}`'}", indent=2, paths=True)
    app.out.line()
    app.out.line("To watch one dispatch from invitation to result, without touching anything of yours: `dispatch demo`")
