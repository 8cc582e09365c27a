"""What of this machine is set up and what is missing, looked at without changing anything.

`dispatch` without a command looks too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.app import App
from peer.client.blocking import DaemonUnreachable, look_for_daemon

if TYPE_CHECKING:
    from peer.machine.setup_state import Obstacle, Part


def look(app: App) -> list[Part]:
    """Return the parts in the order in which they are set up. Raises Invalid for settings that cannot be read."""
    from peer.machine import settings, setup_state

    chosen = settings.resolve(app.folder, broker=app.broker, token=app.token)
    return [
        setup_state.sign_in(app.folder, chosen),
        setup_state.daemon(daemon_runs(app)),
        setup_state.model(chosen),
        setup_state.projects(chosen),
    ]


def roots(app: App) -> tuple[str, ...]:
    """Return the folders of projects that are set. Raises Invalid for settings that cannot be read."""
    from peer.machine import settings

    return settings.load(app.folder).roots


def obstacle(app: App) -> Obstacle | None:
    """Return what this machine lacks to run a task, by the settings and variables of this program."""
    from peer.machine import settings, setup_state

    return setup_state.obstacle(settings.resolve(app.folder, broker=app.broker, token=app.token))


def daemon_runs(app: App) -> bool:
    """Whether `dispatch-daemon` serves this state folder; a session's node ends with the session."""
    try:
        return look_for_daemon(app.folder).hosted_by == "daemon"
    except DaemonUnreachable:
        return False
