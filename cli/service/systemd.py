"""systemd's user manager: the unit of the daemon, rendered, installed and removed."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from cli.service import manager
from cli.service.manager import MARK, RESTART_SECONDS, STOP_SECONDS, State, need, run
from peer.protocol.errors import Invalid, Unavailable

UNIT: Final = "dispatch-daemon.service"
LINGERS: Final = "X-DispatchLinger=enabled"
"""Stands in the unit where installing turned lingering on, so that uninstalling turns it off again."""
WANTS: Final = "default.target.wants"

TEMPLATE: Final = """\
# {mark}; `dispatch service uninstall` removes it.
# Settings of your own: `systemctl --user edit {unit}`.
[Unit]
Description=dispatch daemon
# A daemon that fails five times in five minutes stays down: `dispatch service status` shows it.
StartLimitIntervalSec=300
StartLimitBurst=5
{linger}
[Service]
Type=exec
# The colon: nothing in the line is a variable.
ExecStart=:{program}
{environment}Restart=on-failure
RestartSec={restart}
# The daemon ends its runs itself; what is left after the time is killed.
KillMode=mixed
TimeoutStopSec={stop}
# A run that takes too much memory ends that run, and not the daemon with it.
OOMPolicy=continue
# A dump of the daemon's memory would hold its keys.
LimitCORE=0
SyslogIdentifier=dispatch-daemon

# Usual settings that are missing here on purpose, since every run is confined by bubblewrap, started by the daemon:
# - NoNewPrivileges=, and what implies it in a user's unit (SystemCallFilter=, RestrictSUIDSGID=, LockPersonality=):
#   an AppArmor profile, as Ubuntu wants one for bubblewrap, might not be entered then, nor a setuid bwrap work.
# - RestrictNamespaces=: bubblewrap is made of user and mount namespaces.
# - ProtectKernelTunables=, ProtectProc=: where parts of /proc are covered, the kernel refuses a run a /proc of its own.
# - ProtectHome=, ProtectSystem=, PrivateTmp=: folders that were granted may be anywhere, and are written to.
# `dispatch doctor` shows whether runs can be confined.

[Install]
WantedBy=default.target
"""


class Systemd:
    """See `Manager`."""

    name = "systemd"
    can_linger = True
    logs = f"journalctl --user -u {UNIT}"

    @property
    def path(self) -> Path:
        return _folder() / UNIT

    def check(self) -> None:
        if run("systemctl", "--user", "show", "--property=Version", "--value").returncode == 0:
            return
        if not Path("/run/systemd/system").is_dir():
            wsl = "on WSL 2 put `systemd=true` below `[boot]` in /etc/wsl.conf, then `wsl --shutdown`; elsewhere "
            raise Unavailable(
                "systemd does not run on this machine",
                fix=f"{wsl if _is_wsl() else ''}have your own service manager start `dispatch-daemon`",
            )
        raise Unavailable(
            "systemd has no user manager for this login",
            fix="log in as this user directly (console, ssh, `machinectl shell USER@`), not by su or sudo; try again",
        )

    def render(self, program: Path, environment: Mapping[str, str], *, linger: bool) -> str:
        if any(each in str(program) for each in "\"'\\"):
            raise Invalid(
                f"systemd cannot start a program with a quote or a backslash in its path: {program}",
                fix="install dispatch in a folder with a plainer name",
            )
        return TEMPLATE.format(
            mark=MARK,
            unit=UNIT,
            linger=f"{LINGERS}\n" if linger else "",
            program=_quoted(str(program)),
            environment="".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in environment.items()),
            restart=RESTART_SECONDS,
            stop=STOP_SECONDS,
        )

    def lingering(self) -> bool:
        return run("loginctl", "show-user", _user(), "--property=Linger", "--value").stdout.strip() == "yes"

    def lingers_by_us(self) -> bool:
        return _lingers_by_us(manager.written(self.path))

    def install(self, text: str, *, linger: bool) -> None:
        ours = _lingers_by_us(manager.written(self.path))
        if linger:
            # First, since it may be refused: then nothing was changed.
            fix = f"run `sudo loginctl enable-linger {_user()}`, then install without --linger"
            need("loginctl", "enable-linger", _user(), fix=fix)
        try:
            manager.write(self.path, text)
        except BaseException:
            if linger and not ours:
                run("loginctl", "disable-linger", _user())
            raise
        see = f"see `systemctl --user status {UNIT}`; to undo this: `dispatch service uninstall`"
        need("systemctl", "--user", "daemon-reload", fix=see)
        need("systemctl", "--user", "enable", UNIT, fix=see)
        run("systemctl", "--user", "reset-failed", UNIT)  # of earlier attempts, which would count to the limit
        need("systemctl", "--user", "restart", UNIT, fix=see)
        if ours and not linger:
            need("loginctl", "disable-linger", _user(), fix=f"`sudo loginctl disable-linger {_user()}`")

    def uninstall(self) -> bool:
        text = manager.written(self.path)
        if run("systemctl", "--user", "show", "--property=Version", "--value").returncode == 0:
            if text is not None:
                see = f"see `systemctl --user status {UNIT}`"
                need("systemctl", "--user", "disable", "--now", UNIT, fix=see)
            _remove(self.path)
            run("systemctl", "--user", "daemon-reload")
            run("systemctl", "--user", "reset-failed", UNIT)
        else:
            _remove(self.path)
        if _lingers_by_us(text):
            need("loginctl", "disable-linger", _user(), fix=f"`sudo loginctl disable-linger {_user()}`")
        return text is not None

    def state(self) -> State:
        text = manager.written(self.path)
        names = ("ActiveState", "SubState", "Result", "NRestarts", "UnitFileState")
        shown = run("systemctl", "--user", "show", UNIT, *(f"--property={name}" for name in names)).stdout
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        return State(
            installed=text is not None,
            enabled=found.get("UnitFileState") == "enabled",
            running=found.get("ActiveState") == "active",
            lingers=self.lingering(),
            detail=f"{found.get('ActiveState', 'unknown')} ({found.get('SubState', 'unknown')}), last result "
            f"{found.get('Result', 'unknown')}, restarted {found.get('NRestarts', '0')} times",
        )


def _lingers_by_us(unit: str | None) -> bool:
    return unit is not None and LINGERS in unit.splitlines()


def _folder() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config.startswith("/") else Path.home() / ".config") / "systemd/user"


def _remove(path: Path) -> None:
    up_to = path.parents[2]
    # `disable` removes the link; where no manager runs, this does.
    with suppress(OSError):
        manager.remove(path.parent / WANTS / path.name, up_to=path.parent)
    manager.remove(path, up_to=up_to)


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _is_wsl() -> bool:
    return "microsoft" in os.uname().release.lower()


def _quoted(text: str) -> str:
    """A word of a unit file: quoted, its backslashes and quotes escaped, and no specifier (systemd.syntax(7))."""
    if not text.isprintable():
        raise Invalid(f"systemd's units cannot hold {text!r}", fix="use folders with plainer names")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
