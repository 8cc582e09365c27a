"""`service install|status|uninstall`: keeping the daemon running, by the service manager of this machine's person."""

from __future__ import annotations

import os
import sys

import click

from cli.app import App
from cli.base import DispatchGroup, pass_app
from cli.home_folder import home
from cli.output import interactive
from cli.plugin import programs_folder
from cli.service import environment, manager
from cli.service.launchd import Launchd
from cli.service.manager import Manager
from cli.service.systemd import Systemd
from peer.machine.lock import AlreadyRunning, state_lock
from peer.protocol.errors import Conflict, Invalid, Unavailable

DAEMON = "dispatch-daemon"

yes_option = click.option("--yes", is_flag=True, help="Do it without asking; needed without a terminal.")


@click.group(
    cls=DispatchGroup,
    sign_in=False,
    example="dispatch service install\ndispatch service status\ndispatch service uninstall",
)
def service() -> None:
    """Start the daemon at each login, restart it after a failure and, if you choose, keep it running after logout."""


@service.command(
    "install",
    example="dispatch service install\ndispatch service install --linger --yes\ndispatch service install --show",
)
@click.option(
    "--linger/--no-linger", default=None, help="Also run while you are logged out (`loginctl enable-linger`), or not."
)
@click.option("--show", is_flag=True, help="Print what would be written, and change nothing.")
@yes_option
@pass_app
def install(app: App, linger: bool | None, show: bool, yes: bool) -> None:
    """Have your service manager run the daemon.

    Installs a systemd user unit, or a launchd agent on macOS. It is shown before it is written, and holds no key and no
    token. Installing again replaces it and restarts the daemon; do so after dispatch has moved to another folder.
    """
    set_up(app, linger=linger, show=show, yes=yes)


def set_up(app: App, *, linger: bool | None = None, show: bool = False, yes: bool = False) -> bool:
    """Do what `install` does; return whether anything was written. Raises Conflict, Invalid, Unavailable."""
    kept_by = _manager(app)
    if linger and not kept_by.can_linger:
        raise Invalid(f"{kept_by.name} runs this service only while you are logged in", fix="leave out --linger")
    program = programs_folder() / DAEMON
    if not show:
        kept_by.check()
        _refuse_a_second_daemon(app, kept_by)
    _may_ask(app, yes=yes or show)
    ours_lingers = _lingers(kept_by, linger, ask=not (yes or show))
    text = kept_by.render(program, environment.kept(os.environ), linger=ours_lingers)
    left_out = environment.left_out(os.environ)
    if not app.out.json:
        app.out.line(f"{kept_by.path}:", paths=True)
        app.out.block(text, indent=4)
        for name, why in left_out.items():
            app.out.line(f"${name} is left out: {why}")
        if ours_lingers:
            app.out.line("lingering is turned on as well: your services then start with the machine, before you log in")
    if not show:
        if not yes:
            from cli.prompts import confirm

            if not confirm("Write it, and start the daemon?"):
                app.out.line("nothing was changed")
                return False
        kept_by.install(text, linger=ours_lingers)
    if app.out.json:
        done = {"status": "shown" if show else "installed", "manager": kept_by.name, "path": str(kept_by.path)}
        app.out.document(done | {"text": text, "linger": ours_lingers, "left_out": left_out})
    elif not show:
        app.out.line(f"installed; to see its log: `{kept_by.logs}`")
        app.out.note("`dispatch service status` shows it, `dispatch doctor` checks every part")
    return not show


@service.command("status", example="dispatch service status\ndispatch service status --json")
@pass_app
def status(app: App) -> int:
    """Show whether the service is installed and running.

    Exits with 1 if it is not running.
    """
    kept_by = _manager(app)
    state = kept_by.state()
    if app.out.json:
        app.out.document({"manager": kept_by.name, "path": str(kept_by.path), **state._asdict()})
    elif not state.installed:
        app.out.line("not installed; to install it: `dispatch service install`")
    else:
        app.out.pairs(
            {
                "running": "yes" if state.running else "no",
                "starts by itself": "yes" if state.enabled else "no",
                "after logout": "keeps running" if state.lingers else "stops",
                kept_by.name: state.detail,
                "file": str(kept_by.path),
                "log": f"`{kept_by.logs}`",
            }
        )
    return 0 if state.running else 1


@service.command("uninstall", example="dispatch service uninstall\ndispatch service uninstall --yes")
@yes_option
@pass_app
def uninstall(app: App, yes: bool) -> None:
    """Stop the daemon and remove its service.

    Lingering is turned off if installing turned it on. Nothing else of dispatch is touched.
    """
    kept_by = _manager(app)
    if manager.written(kept_by.path) is None:
        changed = False
    else:
        _may_ask(app, yes=yes)
        if not yes:
            from cli.prompts import confirm

            if not confirm(f"Stop the daemon, and remove {home(kept_by.path)}?"):
                app.out.line("nothing was changed")
                return
        changed = kept_by.uninstall()
    if app.out.json:
        app.out.document({"status": "uninstalled", "changed": changed, "path": str(kept_by.path)})
    else:
        app.out.line("uninstalled" if changed else "it was not installed")


def _manager(app: App) -> Manager:
    if sys.platform == "darwin":
        return Launchd(app.folder)
    if sys.platform == "linux":
        return Systemd()
    raise Unavailable(
        f"dispatch does not support the service manager of {sys.platform}",
        fix="have your own service manager start `dispatch-daemon`",
    )


def _may_ask(app: App, *, yes: bool) -> None:
    if not yes and (app.out.json or not interactive()):
        raise Invalid(
            "this asks first, and there is no terminal to ask on",
            fix="look at `dispatch service install --show`, then add --yes",
        )


def _lingers(kept_by: Manager, wanted: bool | None, *, ask: bool) -> bool:
    """Whether lingering is ours: to be turned on by this, or turned on by an earlier one."""
    if not kept_by.can_linger or wanted is False:
        return False
    if kept_by.lingering():
        return kept_by.lingers_by_us()
    if wanted is None and ask:
        from cli.prompts import confirm

        return confirm("Should the daemon also run while you are logged out?")
    return bool(wanted)


def _refuse_a_second_daemon(app: App, kept_by: Manager) -> None:
    """One that was started by hand has the state folder's lock, so the service would only fail."""
    if kept_by.state().running:
        return
    try:
        with state_lock(app.folder):
            pass
    except AlreadyRunning as error:
        raise Conflict(
            error.message, fix="stop that one first (Ctrl-C where it runs), then run `dispatch service install` again"
        ) from error
