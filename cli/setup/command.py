"""The `setup` command: goes through the parts of state.py in order, and does with the person what is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.output import interactive
from cli.prompts import NoAnswer
from cli.setup import state, steps
from peer.protocol.errors import DispatchError

if TYPE_CHECKING:
    from peer.machine.setup_state import Name, Part

STEPS: dict[Name, Callable[[App], None]] = {
    "sign-in": steps.sign_in,
    "daemon": steps.start_daemon,
    "model key": steps.set_model_key,
    "projects": steps.name_projects,
}


@click.command(cls=DispatchCommand, example="dispatch setup\ndispatch setup --json")
@pass_app
def setup(app: App) -> int:
    """Set up this machine: broker, daemon, model key, project folders, and a demo if you like.

    What is already set up is shown and left as it is. You can skip any step, and run this again at any time. Without a
    terminal, it lists what is missing, with the command for each. Exits with 1 while something essential is missing.
    """
    if not interactive() or app.out.json:
        return _show(app)
    parts = state.look(app)
    for number, part in enumerate(parts, 1):
        app.out.line(f"{number} of {len(parts)}  {part.name}", style="bold")
        if part.done and part.name == "projects":
            steps.show_projects(app, state.roots(app))
        elif part.done:
            app.out.line(f"✓ {part.detail}", indent=2, paths=True)
        else:
            _do(app, part)
    return _end(app)


def _do(app: App, part: Part) -> None:
    """Do one step. What goes wrong in it is said, and the next one follows."""
    try:
        STEPS[part.name](app)
    except DispatchError as error:
        app.out.error(error)
        app.out.line(f"not done: {part.detail}; to do it later: `{part.command}`", indent=2)
    except NoAnswer:
        app.out.line(f"skipped; to do it later: `{part.command}`", indent=2)


def _show(app: App) -> int:
    parts = state.look(app)
    missing = any(part.needed and not part.done for part in parts)
    if app.out.json:
        found = [each.document() for each in steps.project_folders(app, state.roots(app))]
        app.out.document({"ready": not missing, "parts": [part._asdict() for part in parts], "project_folders": found})
    else:
        for part in parts:
            todo = "" if part.done else f" (`{part.command}`)"
            app.out.line(f"{'✓' if part.done else '·'} {part.name}: {part.detail}{todo}", paths=True)
    return int(missing)


def _end(app: App) -> int:
    parts = state.look(app)
    app.out.line()
    missing = [part for part in parts if part.needed and not part.done]
    for part in missing:
        app.out.line(f"still missing: {part.name} (`{part.command}`)", style="yellow")
    if missing:
        app.out.line("to continue: `dispatch setup`")
        return 1
    app.out.line("this machine is set up", style="green")
    for part in parts:
        if not part.done:
            steps.say(app, f"{part.name}: {part.detail} (`{part.command}`)", indent=0)
    steps.offer_demo(app)
    next_step = "`dispatch invite EMAIL` asks somebody to let you dispatch to them; `dispatch open` opens the page"
    steps.say(app, f"next: {next_step}", indent=0)
    return 0
