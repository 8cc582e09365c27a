"""`login` and `logout`: the device-authorisation flow on a terminal. The flow itself is in peer.broker.signin."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.output import interactive, string
from cli.prompts import NoAnswer, choose, line
from peer.protocol.errors import Conflict, Invalid, NotSignedIn

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from peer.broker.signin import Prompt, SignedIn
    from peer.machine.settings import Settings


def sign_in_options(command: Callable[..., object]) -> Callable[..., object]:
    """Add the options of a sign-in: `email`, `no_browser`, `label`."""
    for option in (
        click.option("--label", metavar="NAME", help="A name for this device; the host's name by default."),
        click.option("--no-browser", is_flag=True, help="Print the address instead of opening it in the browser."),
        click.option("--email", metavar="ME", help="Your e-mail address, which is your user id."),
    ):
        command = option(command)
    return command


@click.command(
    cls=DispatchCommand,
    example="dispatch login --broker https://broker.example --email alice@example.org\ndispatch login --no-browser",
)
@sign_in_options
@pass_app
def login(app: App, email: str | None, no_browser: bool, label: str | None) -> None:
    """Sign in to a broker and register this device's key there.

    Prints an address and a code, opens the browser, and waits until you approve this device there. The first sign-in of
    a device needs --email; on a terminal you are asked for it. Signing in to another broker replaces your first one; to
    use both: `dispatch broker add URL`.
    """
    from peer.machine import settings

    if app.token is not None:
        raise click.UsageError("login creates a token; to use one that you have: `dispatch config set token -`")
    resolved = settings.resolve(app.folder, broker=app.broker, token=app.token)
    # With several in use and none named, the one that is meant is the person's to say.
    several = app.broker is None and not os.environ.get("DISPATCH_BROKER") and len(resolved.sign_ins) > 1
    url = _asked_broker(app, [each.url for each in resolved.sign_ins]) if several else resolved.broker
    url = url or _asked_broker(app, [])
    if not url:
        raise NotSignedIn(
            "no broker is known",
            fix="name one with `dispatch login --broker https://…`, or host one: `dispatch-rendezvous serve`",
        )
    signed = sign_in_there(app, url, email, no_browser=no_browser, label=label, beside=several)
    if app.out.json:
        app.out.document({"user_id": signed.user_id, "broker": signed.broker, "device_id": signed.device_id})
        return
    app.out.line("next: `dispatch setup` sets up what is still missing on this machine")
    app.out.line("then `dispatch invite EMAIL` asks somebody to let you dispatch to them")


def _asked_broker(app: App, known: list[str]) -> str:
    """Ask on a terminal which broker is meant, of those that are in use or any; elsewhere return the first, or ""."""
    first = known[0] if known else ""
    if not interactive() or app.out.json:
        return first
    from peer.machine import settings

    for number, url in enumerate(known, 1):
        app.out.line(f"{number}  {string(url)}", indent=2)
    try:
        if known:
            return known[
                int(choose(app.out, "Which broker?", [str(n) for n in range(1, len(known) + 1)], default="1")) - 1
            ]
        app.out.line("A broker tells your contacts' machines where to find yours. It never sees a task.")
        typed = line("The broker's address, https://…: ").strip()
    except NoAnswer:
        raise KeyboardInterrupt from None
    return settings.broker_url(typed) if typed else ""


def sign_in_there(
    app: App,
    url: str,
    email: str | None,
    *,
    no_browser: bool,
    label: str | None,
    beside: bool,
    skippable: bool = False,
) -> SignedIn:
    """Sign in at a broker; say so, unless a document is to be printed. `beside` as of peer.broker.signin.

    With `skippable` the person may go on without: no address, Ctrl-D, and Ctrl-C while it waits raise NoAnswer, not
    KeyboardInterrupt.
    """
    from peer.broker.signin import sign_in
    from peer.machine import settings
    from peer.protocol import names

    saved = settings.load(app.folder)
    if email is None and interactive() and not app.out.json and not _has_identity(app):
        try:
            while email is None:
                email = line(f"Your e-mail address{' (Enter: skip)' if skippable else ''}: ").strip() or None
                if email is None and skippable:
                    raise NoAnswer
                try:
                    email = email and names.user_id(email)
                except Invalid as error:
                    app.out.error(error)
                    email = None
        except NoAnswer:
            if skippable:
                raise
            raise KeyboardInterrupt from None
    try:
        with _waiting(app) as show:
            signed = sign_in(
                app.folder,
                url,
                email,
                label or saved.device_name or None,
                _prompter(app, no_browser, show, skippable=skippable),
                beside=beside,
            )
    except KeyboardInterrupt:
        if skippable:
            raise NoAnswer from None
        raise
    for name, named in (("DISPATCH_BROKER", signed.broker), ("DISPATCH_TOKEN", signed.token)):
        if os.environ.get(name, named) != named:
            app.out.warn(f"${name} is set and overrides this sign-in; to use the sign-in: `unset {name}`")
    if app.out.json:
        return signed
    app.out.line(f"signed in as {signed.user_id} at {signed.broker}", style="green")
    if not beside and saved.broker and signed.broker not in {each.url for each in saved.sign_ins}:
        app.out.note(f"it replaces {saved.broker}; to use both: `dispatch broker add {saved.broker}`")
    return signed


def _has_identity(app: App) -> bool:
    """Whether this device has signed in before, so that its address is known."""
    from peer.machine import identity

    try:
        identity.load(app.folder)
    except NotSignedIn:
        return False
    return True


@click.command(cls=DispatchCommand, example="dispatch logout")
@pass_app
def logout(app: App) -> None:
    """Sign out, on this device and at the broker.

    If you use several brokers, it signs out of all of them, or of the one that --broker names. Keys, contacts and
    dispatches stay.
    """
    from peer.broker.signin import sign_out
    from peer.machine import settings

    saved = settings.load(app.folder)
    outcomes = sign_out(app.folder, _to_end(app, saved))
    for error in outcomes.values():
        if error is not None and error.code not in (401, 503):
            raise error
    # With 401 the broker had ended it already.
    untold = [url for url, error in outcomes.items() if error is not None and error.code != 401]
    if app.out.json:
        first, *_ = outcomes
        app.out.document(
            {
                "user_id": saved.email,
                "broker": first,
                "brokers": list(outcomes),
                "signed_out": True,
                "broker_told": not untold,
            }
        )
        return
    app.out.line(f"signed out of {', '.join(string(url) for url in outcomes)}")
    for url in untold:
        app.out.warn(f"could not reach {url}: you are signed out here, and the sign-in there expires by itself")


def _to_end(app: App, saved: Settings) -> list[str]:
    """Return the URLs of the brokers where the saved sign-in ends.

    Raises Conflict if flags or variables name another sign-in than a saved one, which is what would end.
    """
    from peer.machine import settings

    named = settings.resolve(app.folder, broker=app.broker, token=app.token)
    used = [each.url for each in saved.sign_ins]
    if any(each.token for each in saved.sign_ins) and named.broker not in used:
        raise Conflict(
            f"this device is signed in at {', '.join(used)}, not at {named.broker}",
            fix="to sign out there, leave out --broker and unset $DISPATCH_BROKER",
        )
    if (token := saved.at(named.broker).token) and named.token != token:
        raise Conflict(
            "the token named here is not that of the saved sign-in",
            fix="to end the saved sign-in, leave out --token and unset $DISPATCH_TOKEN",
        )
    # Without a name the settings in force are all of them.
    return [each.url for each in named.sign_ins]


def _prompter(app: App, no_browser: bool, show: Callable[[str], None], *, skippable: bool) -> Callable[[Prompt], None]:
    """Return the function that asks the person to open the broker's page."""

    def prompter(prompt: Prompt) -> None:
        app.out.say(f"open {prompt.address}")
        app.out.say(
            f"and approve this device there with the code {prompt.code}, within {prompt.expires_in // 60} minutes"
        )
        if not no_browser and urlsplit(prompt.address).scheme in ("http", "https"):
            import webbrowser

            webbrowser.open(prompt.address)
        show(f"waiting for you to approve this device there{' (Ctrl-C: skip)' if skippable else ''}")

    return prompter


def _waiting(app: App) -> AbstractContextManager[Callable[[str], None]]:
    """Yield a function that shows what is waited for: a spinner if stderr is a terminal, else nothing."""
    if app.out.json or not sys.stderr.isatty():
        return nullcontext(lambda words: None)
    from cli.spinner import spinner

    return spinner()
