"""`join`: from an invitation's link to the answer. Each step looks first, and is left out where it is done already."""

from __future__ import annotations

from urllib.parse import urlsplit

import click

from cli.app import App
from cli.base import DispatchCommand, from_stdin, pass_app
from cli.ids import FULL, HEX, SHORTEST, the_one
from cli.invitations import LISTED, answer, tokens
from cli.login import sign_in_options, sign_in_there
from cli.output import interactive, string
from cli.prompts import confirm
from cli.scope_options import scope_options
from peer.client.blocking import DaemonUnreachable, look_for_daemon
from peer.protocol.errors import Conflict, Forbidden, Invalid


@click.command(
    cls=DispatchCommand,
    sign_in=False,
    example="dispatch join https://broker.example/join/0198c0de-1111-7222-8333-444455556666\n"
    "dispatch join - --tools Read,Glob,Grep --paths ~/code/shop < address.txt",
)
@click.argument("link", metavar="LINK|TOKEN|-")
@sign_in_options
@scope_options
@pass_app
def join(
    app: App,
    /,
    link: str,
    email: str | None,
    no_browser: bool,
    label: str | None,
    yes_unverified: bool,
    **flags: object,
) -> int:
    """Answer an invitation: sign in, start the daemon, see who is asking, and choose what they may do.

    LINK is what the mail or the inviter gave you: a link, a `dispatch:` address, or a token. `-` reads it from standard
    input, which keeps the secret in an address out of process lists. If the invitation is at a broker that you do not
    use yet, it is named before you sign in there; your other brokers stay. You can run this again at any point: steps
    that are done are skipped. Only you choose what to permit: without a terminal and without --tools, the choices are
    shown and nothing is granted.
    """
    from peer.trust import invitation_address

    given = invitation_address.cleaned(from_stdin(link, one_line=True))
    given = _whole(app, given)
    named = invitation_address.parse(given)
    at = "" if isinstance(named, invitation_address.Token) else named.broker
    _sign_in(app, at, email, no_browser=no_browser, label=label)
    _start_daemon(app)
    if (inviter := _accepted_from(app, named.token)) is not None:
        if app.out.json:
            app.out.document({"status": "accepted", "token": named.token, "peer": inviter})
            return 0
        app.out.line(f"✓ already accepted: {inviter} may dispatch to you")
    else:
        answered = answer(app, given, flags, yes_unverified=yes_unverified)
        if not answered.granted or app.out.json:
            return answered.code
    _show_next(app)
    return 0


def _whole(app: App, given: str) -> str:
    """Return the whole token for a part of one that is known here, as lists show it; anything else as it is."""
    wanted = given.lower()
    if not (SHORTEST <= len(wanted) < FULL and set(wanted) <= HEX and app.folder.store.exists()):
        return given
    known = app.read(lambda source: tokens(source.invitations(ended=True)))
    return the_one(wanted, known, kind="invitation", listed=f"{LISTED}, and `dispatch join -` takes the whole link")


def _sign_in(app: App, at: str, email: str | None, *, no_browser: bool, label: str | None) -> None:
    """Sign in at the invitation's broker, or where only a token is known at the one in use."""
    from peer.machine import settings

    saved = settings.resolve(app.folder, broker=None, token=None)
    url = settings.broker_url(at) if at else saved.broker
    if not url:
        raise Invalid(
            "a token alone does not say which broker has the invitation",
            fix="run `dispatch join -` and paste the whole link from the mail",
        )
    used = [each.url for each in saved.sign_ins]
    if saved.at(url).token:
        _say(app, f"✓ signed in at {url}")
        return
    if url not in used:
        _say(app, f"The invitation is at the broker {url}, which this machine does not use yet.")
        _say(app, "A broker learns your e-mail address and who invites you. It never sees a task.")
        if used and interactive() and not app.out.json:
            app.out.line(f"You also keep {', '.join(used)}.")
            if not confirm(f"Use {urlsplit(url).netloc} as well?"):
                raise Forbidden(
                    f"not signed in at {url}", fix="find out who runs that broker, then run `dispatch join -` again"
                )
    sign_in_there(app, url, email, no_browser=no_browser, label=label, beside=bool(used))


def _start_daemon(app: App) -> None:
    try:
        look_for_daemon(app.folder)
    except DaemonUnreachable:
        from cli.setup.steps import start_detached

        _say(app, "starting the daemon, which receives what is sent to you …")
        start_detached(app)
        _say(app, "✓ running until this machine restarts; to start it at each login: `dispatch service install`")
    else:
        _say(app, "✓ the daemon is running")


def _accepted_from(app: App, token: str) -> str | None:
    """Return who sent an invitation that was accepted here before. Raises Conflict for one of one's own."""
    listed = app.client.invitations(ended=True)
    for row in listed["sent"]:
        if row["token"] == token:
            raise Conflict(
                f"this is your own invitation: {string(row.get('to'))} answers it, on their machine",
                fix="to see whether they have: `dispatch invitations`",
            )
    for row in listed["received"]:
        if row["token"] == token and row["status"] == "accepted":
            return string(row.get("from"))
    return None


def _show_next(app: App) -> None:
    from cli.setup import state

    for part in state.look(app):
        if not part.done:
            # Whoever joins is to run tasks, so that the model key is missing too.
            optional = part.name == "projects"
            words = f"{'optional' if optional else 'still missing'}: {part.name} (`{part.command}`): {part.detail}"
            app.out.line(words, style=None if optional else "yellow", paths=True)
    app.out.line("next: `dispatch inbox` shows what is sent to you; `dispatch open` opens the page")
    app.out.line("Nothing runs until you accept it: `dispatch accept ID`.")


def _say(app: App, words: str) -> None:
    """Say how it goes: on standard output for people, beside a document on standard error."""
    if app.out.json:
        app.out.say(words)
    else:
        app.out.line(words)
