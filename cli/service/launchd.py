"""launchd of macOS: the agent of the daemon as a property list. Written by launchd.plist(5); tried on no Mac."""

from __future__ import annotations

import os
import plistlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cli.service import manager
from cli.service.manager import MARK, RESTART_SECONDS, STOP_SECONDS, State, need, run
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Unavailable

LABEL: Final = "local.dispatch.daemon"
LOG: Final = "service.log"


class Launchd:
    """See `Manager`. An agent runs while its person is logged in, so nothing lingers."""

    name = "launchd"
    can_linger = False

    def __init__(self, folder: StateFolder) -> None:
        self._log = folder.path / LOG
        self.logs = f"tail {self._log}"

    @property
    def path(self) -> Path:
        return Path.home() / "Library/LaunchAgents" / f"{LABEL}.plist"

    def check(self) -> None:
        if run("launchctl", "print", _domain()).returncode:
            raise Unavailable(
                "launchd has no session for this login",
                fix="log in on the Mac itself, and try again in a terminal there",
            )

    def render(self, program: Path, environment: Mapping[str, str], *, linger: bool) -> str:
        definition = {
            "Label": LABEL,
            "ProgramArguments": [str(program)],
            "EnvironmentVariables": dict(environment),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            # launchd has no bound on how often; this one is on how fast.
            "ThrottleInterval": max(RESTART_SECONDS, 10),
            "ExitTimeOut": STOP_SECONDS,
            "ProcessType": "Background",
            "HardResourceLimits": {"Core": 0},
            "StandardOutPath": str(self._log),
            "StandardErrorPath": str(self._log),
        }
        first, rest = plistlib.dumps(definition).decode().split("\n", 1)
        return f"{first}\n<!-- {MARK}; `dispatch service uninstall` removes it. -->\n{rest}"

    def lingering(self) -> bool:
        return False

    def lingers_by_us(self) -> bool:
        return False

    def install(self, text: str, *, linger: bool) -> None:
        manager.write(self.path, text)
        run("launchctl", "bootout", _service())
        see = "to undo this: `dispatch service uninstall`"
        need("launchctl", "bootstrap", _domain(), str(self.path), fix=see)

    def uninstall(self) -> bool:
        found = manager.written(self.path) is not None
        if found:
            run("launchctl", "bootout", _service())
            self.path.unlink(missing_ok=True)
            self._log.unlink(missing_ok=True)
        return found

    def state(self) -> State:
        shown = run("launchctl", "print", _service())
        running = "state = running" in shown.stdout
        return State(
            installed=manager.written(self.path) is not None,
            enabled=shown.returncode == 0,
            running=running,
            lingers=False,
            detail="running" if running else "not running",
        )


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _service() -> str:
    return f"{_domain()}/{LABEL}"
