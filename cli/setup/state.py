"""What of this machine is set up and what is missing, looked at without changing anything.

`dispatch` without a command looks too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from cli.app import App
from peer.client.blocking import DaemonUnreachable, look_for_daemon
from peer.protocol.errors import NotSignedIn

if TYPE_CHECKING:
    from peer.machine.settings import Settings

Name = Literal["sign-in", "daemon", "model key", "projects"]


class Part(NamedTuple):
    """One part. `detail`: how it is, or why it is missing. `command`: what sets it up by itself."""

    name: Name
    done: bool
    detail: str
    command: str
    needed: bool = True
    """Whether nothing works without it."""


def look(app: App) -> list[Part]:
    """Return the parts in the order in which they are set up. Raises Invalid for settings that cannot be read."""
    from peer.machine import settings

    chosen = settings.resolve(app.folder, broker=app.broker, token=app.token)
    return [_sign_in(app, chosen), _daemon(app), _model_key(chosen), _projects(chosen)]


def daemon_runs(app: App) -> bool:
    """Whether `dispatch-daemon` serves this state folder; a session's node ends with the session."""
    try:
        return look_for_daemon(app.folder).hosted_by == "daemon"
    except DaemonUnreachable:
        return False


def _sign_in(app: App, chosen: Settings) -> Part:
    from peer.machine import identity

    command = f"dispatch login --broker {chosen.broker or 'https://…'}"
    try:
        who = identity.load(app.folder)
    except NotSignedIn:
        return Part("sign-in", False, "this machine has not signed in at a broker yet", command)
    if not (chosen.broker and chosen.token):
        return Part("sign-in", False, f"{who.user_id} is not signed in at a broker", command)
    return Part("sign-in", True, f"{who.user_id} at {chosen.broker}", command)


def _daemon(app: App) -> Part:
    running = daemon_runs(app)
    return Part("daemon", running, "running" if running else "not running", "dispatch service install")


def _model_key(chosen: Settings) -> Part:
    from peer.machine import model_key

    command = "dispatch config set model.api_key -"
    if not model_key.needed(chosen):
        return Part("model key", True, f"none is needed: the {chosen.runtime} agent asks no model", command)
    if not chosen.model.api_key:
        why = chosen.model.key_problem or "without one this machine sends tasks and runs none"
        return Part("model key", False, why, command, needed=False)
    at = f", for {chosen.model.base_url}" if chosen.model.base_url else ""
    return Part("model key", True, f"set{at}", command)


def _projects(chosen: Settings) -> Part:
    command = "dispatch config set roots PATH"
    if not chosen.roots:
        return Part("projects", False, "no folder of projects is named", command, needed=False)
    return Part("projects", True, ", ".join(chosen.roots), command)
