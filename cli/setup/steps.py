"""The steps of `dispatch setup`, with the person at the terminal. Each raises DispatchError, or NoAnswer if skipped."""

from __future__ import annotations

import getpass
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.agent_program import asked
from cli.app import App
from cli.home_folder import home
from cli.plugin import programs_folder
from cli.prompts import NoAnswer, choose, confirm, line
from cli.setup.state import daemon_runs
from peer.client.blocking import DaemonUnreachable
from peer.machine.settings import Settings
from peer.protocol.errors import DispatchError, Invalid, Unauthorized, Unavailable

if TYPE_CHECKING:
    from peer.projects.survey import Survey

DAEMON: Final = "dispatch-daemon"
STARTED_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.1
TRIES: Final = 3
USUAL_FOLDERS: Final = ("projects", "Projects", "code", "src", "work", "repos", "dev")
"""Names below the home under which many people keep their projects: offered, never taken unasked."""


def sign_in(app: App) -> None:
    """Ask for the broker, and sign in there."""
    from cli.login import sign_in_there
    from peer.machine import settings

    known = settings.resolve(app.folder, broker=app.broker).broker
    if known:
        app.out.line(f"broker: {known}", indent=2)
    else:
        say(
            app,
            "A broker tells your contacts' machines where to find yours. It never sees a task. Use the broker of "
            "whoever invited you, or host one: `dispatch-rendezvous serve`.",
        )
        known = _asked_for(app, "The broker's address, https://… (Enter: skip): ", settings.broker_url)
    sign_in_there(app, known, None, no_browser=False, label=None, beside=False, skippable=True)


def start_daemon(app: App) -> None:
    """Have the service manager run the daemon, or start it until the machine is restarted."""
    say(app, "The daemon receives, runs and sends dispatches for you in the background.")
    app.out.line("1  at each login, as a service", indent=2)
    app.out.line("2  now, until this machine restarts", indent=2)
    app.out.line("3  not now", indent=2)
    answer = choose(app.out, "When should it run?", ["1", "2", "3"], default="1")
    if answer == "3":
        raise NoAnswer
    if answer == "1":
        from cli.service.command import set_up

        if not set_up(app):
            raise NoAnswer
        _wait_until_it_answers(app)
    else:
        start_detached(app)
    app.out.line("✓ running", indent=2)


def set_model_key(app: App) -> None:
    """Ask for the key, save it where keys are kept, and ask the model's API whether it takes it."""
    from peer.machine import model_key, settings

    say(
        app,
        "The agent that runs tasks here needs a key for its model: an API key, or `Bearer TOKEN` for a gateway. "
        "It stays on this machine, in the OS keychain if there is one, and no run can see it.",
    )
    for _ in range(TRIES):
        try:
            given = getpass.getpass("  The key (not shown; Enter: skip): ").strip()
        except EOFError:  # Ctrl-D
            raise NoAnswer from None
        if not given:
            raise NoAnswer
        try:
            changed = settings.set_value(settings.load(app.folder), "model.api_key", given)
            if (said := _refusal(app, changed)) is None:
                model_key.save(app.folder, changed)
                _reload(app)
                app.out.line("✓ saved", indent=2)
                return
        except Invalid as error:
            said = error
        app.out.error(said)
    raise NoAnswer


def name_projects(app: App) -> None:
    """Ask for the folders that hold projects."""
    from peer.machine import settings

    usual = next((path for name in USUAL_FOLDERS if (path := Path.home() / name).is_dir()), None)
    say(
        app,
        "A task may name a project, which dispatch then looks for in these folders. Naming a folder here gives nobody "
        "access to it.",
    )
    enter = f"Enter: {home(usual)}, - for none" if usual else "Enter: none"
    for _ in range(TRIES):
        text = line(f"  Folders with your projects, comma-separated ({enter}): ").strip() or str(usual or "")
        if text in ("", "-"):
            raise NoAnswer
        try:
            changed = settings.set_value(settings.load(app.folder), "roots", text)
        except Invalid as error:
            app.out.error(error)
            continue
        settings.save(app.folder, changed)
        _reload(app)
        show_projects(app, changed.roots)
        return
    raise NoAnswer


def project_folders(app: App, roots: Sequence[str]) -> list[Survey]:
    """Return what is in the folders of projects, which takes two seconds at most."""
    from peer.projects.survey import survey

    return survey(roots, clock=time.monotonic, excluded=(str(app.folder.path),))


def show_projects(app: App, roots: Sequence[str]) -> None:
    """Say what is in each folder of projects: too much and nothing are mistakes that a person can see here."""
    for each in project_folders(app, roots):
        app.out.line(f"✓ {each.folder}: {each.words}", indent=2, paths=True)


def say(app: App, words: str, *, indent: int = 2) -> None:
    """Write words of ours, in lines of whole words at the terminal's width."""
    app.out.line(words, indent=indent, hanging=0)


def offer_demo(app: App) -> None:
    """Offer the demo, once this machine is set up."""
    if confirm("Watch one dispatch from invitation to result, without touching anything of yours (about a minute)?"):
        from cli.demo.command import demo

        click.get_current_context().invoke(demo, yes=False, live=False)


def _asked_for(app: App, prompt: str, check: Callable[[str], str]) -> str:
    for _ in range(TRIES):
        text = line(f"  {prompt}").strip()
        if not text:
            raise NoAnswer
        try:
            return check(text)
        except Invalid as error:
            app.out.error(error)
    raise NoAnswer


def _refusal(app: App, changed: Settings) -> DispatchError | None:
    """Say what the model's API says of the key; return its refusal. What cannot be asked now is no refusal."""
    import msgspec

    from peer.machine import model_route

    described = msgspec.json.encode(model_route.model(changed))
    app.out.line("checking the key with the model's API …", indent=2, style="dim")
    try:
        answer = asked("--model", changed.runtime, given=described)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        app.out.warn(f"could not check the key: {error}")
        return None
    if (problem := answer.get("error")) is None:
        app.out.line(str(answer["detail"]), indent=2)
        return None
    if problem["code"] == 401:
        return Invalid(str(problem["message"]), fix=str(problem["fix"]))
    app.out.warn(f"could not check the key: {problem['message']}; {problem['fix']}")
    return None


def _reload(app: App) -> None:
    with suppress(DaemonUnreachable):  # it reads the settings when it starts
        app.client.reload()


def start_detached(app: App) -> None:
    """Start the daemon in a session of its own, so that it outlives the terminal, and wait until it answers.

    Raises Unavailable.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [programs_folder() / DAEMON],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd="/",
            start_new_session=True,
        )

        def ended() -> str:
            if process.poll() is None:
                return ""
            errors.seek(0)
            return " ".join(errors.read(4096).decode(errors="replace").split()) or f"exit code {process.returncode}"

        _wait_until_it_answers(app, ended)


def _wait_until_it_answers(app: App, ended: Callable[[], str] = lambda: "") -> None:
    """`ended()`: what the daemon said when it ended, "" while it may still come. Raises Unavailable."""
    until = time.monotonic() + STARTED_SECONDS
    while True:
        try:
            if daemon_runs(app):
                app.client.whoami()
                return
        except Unauthorized:
            return  # it runs, and goes on as this device's node once this machine has signed in
        except DispatchError as error:
            if time.monotonic() > until:
                raise Unavailable(
                    f"the daemon does not answer: {error.message}", fix="run `dispatch doctor`"
                ) from error
        if said := ended():
            raise Unavailable(f"the daemon stopped at once: {said}", fix=f"to see why, run `{DAEMON}` here")
        if time.monotonic() > until:
            raise Unavailable(f"the daemon did not answer within {STARTED_SECONDS:.0f} s", fix="run `dispatch doctor`")
        time.sleep(LOOK_SECONDS)
