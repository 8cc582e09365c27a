"""`config list|get|set`: the person's settings. Their meaning: peer.machine.setting_keys; checks: settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.base import DispatchGroup, from_stdin, pass_app
from cli.output import string
from peer.protocol.errors import Conflict, Invalid, NotSignedIn

AT_START = ("port", "listen")
"""Settings that a daemon reads when it starts, not when it is told of a change."""

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def _keys(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from peer.machine.setting_keys import KEYS

    return [CompletionItem(key, help=about.allowed) for key, about in KEYS.items() if key.startswith(incomplete)]


@click.group(cls=DispatchGroup, sign_in=False, example="dispatch config list\ndispatch config set roots ~/code,~/work")
def config() -> None:
    """Show and change the settings in config.json. Flags and environment variables override them."""


@config.command("list", example="dispatch config list --json")
@pass_app
def list_(app: App) -> None:
    """Show every setting of config.json; secrets are masked."""
    from peer.machine import settings

    values = settings.shown(settings.load(app.folder))
    if app.out.json:
        app.out.document({"path": str(app.folder.config), "settings": values})
        return
    app.out.pairs({key: string(value) for key, value in values.items()})
    app.out.note(f"from {app.folder.config}")


@config.command("get", example="dispatch config get roots")
@click.argument("key", shell_complete=_keys)
@click.option("--reveal", is_flag=True, help="Print a secret unmasked.")
@pass_app
def get(app: App, key: str, reveal: bool) -> None:
    """Print one setting; a secret is masked unless you give --reveal."""
    from peer.machine import model_key, settings
    from peer.machine.setting_keys import KEYS

    saved = settings.load(app.folder)
    value = settings.get_value(saved, key)
    if KEYS[key].secret and value and not reveal:
        value = settings.MASK
    elif key == "model.api_key":
        value = model_key.reveal(app.folder, saved)
    if app.out.json:
        app.out.document({"key": key, "value": value})
    elif isinstance(value, list):
        for item in value:
            app.out.line(str(item))
    else:
        app.out.line(string(value) if value not in ("", None) else "")
        if value in ("", None):
            app.out.note(f"it is not set; to set it: `dispatch config set {key} -`")


@config.command("set", example="dispatch config set port 8002\ndispatch config set model.api_key - < key.txt")
@click.argument("key", shell_complete=_keys)
@click.argument("value", metavar="VALUE|-")
@pass_app
def set_(app: App, key: str, value: str) -> None:
    """Change one setting. Lists are comma-separated; an empty value restores the default; `-` reads standard input.

    Secrets are accepted only with `-`: on a terminal you are asked for them, and they are not shown.
    """
    from peer.client.blocking import Client, DaemonUnreachable
    from peer.machine import model_key, model_route, settings

    _refuse_visible_secret(key, value)
    saved = settings.load(app.folder)
    changed = settings.set_value(saved, key, from_stdin(value, secret=_is_secret(key)))
    if key == "email":
        _refuse_other_address(app, changed.email)
    if key == "model.api_key":
        changed = model_key.save(app.folder, changed)
    else:
        settings.save(app.folder, changed)
    shown = settings.shown(changed)[key]
    try:
        Client(app.folder).reload()
        reloaded = True
    except DaemonUnreachable:
        reloaded = False
    if app.out.json:
        app.out.document({"key": key, "value": shown, "daemon_told": reloaded})
    else:
        app.out.line(f"{key} = {string(shown)}", paths=True)
        if key in ("model.name", "model.price") and model_route.unpriced(changed):
            app.out.note("its price is not known: limits in USD use the price of the most expensive known model")
            app.out.note(f"fix: {model_route.PRICE_FIX}")
        if reloaded and key in AT_START and changed != saved:
            app.out.note("the running daemon uses it once it is restarted")


def _is_secret(key: str) -> bool:
    from peer.machine.setting_keys import KEYS

    return key in KEYS and KEYS[key].secret


def _refuse_visible_secret(key: str, value: str) -> None:
    """Raise Invalid for a secret on the command line. The error does not repeat it.

    An empty value and `none` are no secrets, and a proxy without a name and password is none either.
    """
    if value in ("", "-", "none") or not _is_secret(key) or (key == "model.proxy" and "@" not in value):
        return
    raise Invalid(
        f"{key} is a secret: other users of this machine can see a command line, and shells remember it",
        fix=f"`dispatch config set {key} -` asks for it, or reads it from a pipe or a file, as in `… - < FILE`",
    )


def _refuse_other_address(app: App, email: str) -> None:
    """Raise Conflict if this device has signed in with another address, which it keeps."""
    from peer.machine import identity

    try:
        who = identity.load(app.folder)
    except NotSignedIn:
        return
    if email != who.user_id:
        raise Conflict(
            f"this device belongs to {who.user_id}, and its address cannot be changed",
            fix="use another state folder ($DISPATCH_HOME) for another person",
        )
