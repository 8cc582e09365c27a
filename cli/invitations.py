"""`invite`, `invitations`, `accept-invitation`, `decline-invitation`, `block`: how trust begins, or does not."""

from __future__ import annotations

from typing import Any

import click

from cli.asking import NoAnswer, choose, line
from cli.base import App, DispatchCommand, DispatchGroup, from_stdin, pass_app
from cli.completing import inviters
from cli.output import interactive, local_time, string
from cli.scope_options import chosen, confirmed, powers, scope_options
from cli.showing import scope_line
from peer.client import Document
from peer.protocol.errors import Invalid

MENU = {"1": "Read,Glob,Grep", "2": "Read,Glob,Grep,Write,Edit", "3": "Read,Glob,Grep,Write,Edit,Bash"}


@click.command(cls=DispatchCommand, broker=True, example="dispatch invite bob@example.org")
@click.argument("email")
@pass_app
def invite(app: App, email: str) -> None:
    """Ask the person at EMAIL to let me dispatch to them. Nothing is granted until they choose what."""
    document = app.ask(lambda client: client.invite(email), signed_in=True)
    if app.out.json:
        app.out.document(document)
        return
    to, link = string(document.get("to")), string(document.get("link"))
    if document.get("existing"):
        app.out.line(f"nothing changed: there is one already ({string(document['existing'])})")
    elif document.get("emailed"):
        app.out.line(f"invited {to}: the broker has mailed it")
    else:
        app.out.line(f"invited {to}: no mail was sent, so give them this link yourself")
    if document.get("link"):
        app.out.line(link, indent=2)
    if document.get("token"):
        app.out.note(f"token {document['token']}; to take it back: `dispatch invitations withdraw {document['token']}`")


@click.group(
    cls=DispatchGroup,
    broker=True,
    invoke_without_command=True,
    example="dispatch invitations\ndispatch invitations withdraw 0198c0de-1111-7222-8333-444455556666",
)
@click.pass_context
def invitations(ctx: click.Context) -> None:
    """List open invitations, sent and received, with their tokens."""
    if ctx.invoked_subcommand is not None:
        return
    app = ctx.find_object(App)
    assert app is not None
    document = app.ask(lambda client: client.invitations(), signed_in=True)
    if app.out.json:
        app.out.document(document)
        return
    app.out.line("sent", style="bold")
    app.out.table(
        ["token", "to", "status", "expires"],
        [
            [string(row.get("token")), string(row.get("to")), string(row.get("status")), local_time(row.get("expires"))]
            for row in document["sent"]
        ],
        empty="  none",
    )
    app.out.line("received", style="bold")
    app.out.table(
        ["token", "from", "status", "expires", "verified", "fingerprint"],
        [
            [
                string(row.get("token")),
                string(row.get("from")),
                string(row.get("status")),
                local_time(row.get("expires")),
                string(bool(row.get("verified"))),
                string(row.get("fingerprint")),
            ]
            for row in document["received"]
        ],
        empty="  none",
    )
    if document["received"]:
        app.out.note("to answer: `dispatch accept-invitation TOKEN` or `dispatch decline-invitation TOKEN`")


@invitations.command(
    "withdraw", broker=True, example="dispatch invitations withdraw 0198c0de-1111-7222-8333-444455556666"
)
@click.argument("token")
@pass_app
def withdraw(app: App, token: str) -> None:
    """Take back an invitation that I sent, before it is answered."""
    document = app.ask(lambda client: client.withdraw_invitation(token), signed_in=True)
    if app.out.json:
        app.out.document(document)
    else:
        app.out.line("withdrawn")


@click.command(
    cls=DispatchCommand,
    example="dispatch accept-invitation 0198c0de-1111-7222-8333-444455556666\n"
    "dispatch accept-invitation - --tools Read,Glob,Grep --paths ~/code/shop --expires 30d < link.txt",
)
@click.argument("token", metavar="TOKEN|LINK|-")
@scope_options
@pass_app
def accept_invitation(app: App, /, token: str, yes_unverified: bool, **flags: Any) -> int:
    """Let the inviter dispatch to this machine, within a scope that I choose.

    --tools is required, because nobody but you chooses: without it the choices are shown. What is not said is the
    least: no MCP servers, every call answered by you, 50 a day. `-` reads the token or link from standard input.
    """
    secret = from_stdin(token).strip()
    given = chosen(flags)
    offer: Document | None = None
    if "tools" not in given:
        offer = app.ask(lambda client: client.accept_invitation(secret, {}))
        if not interactive() or app.out.json:
            return _explain(app, offer)
        answer = _ask_scope(app, offer)
        if answer is None:
            _say_declined(app, app.client.decline_invitation(secret))
            return 0
        given = {**answer, **given}
    if found := powers(given):
        offer = offer or app.ask(lambda client: client.accept_invitation(secret, {}))
        if not offer.get("verified"):
            confirmed(app.out, string(offer.get("inviter")), offer.get("fingerprint"), found, yes=yes_unverified)
            yes_unverified = True
    document = app.ask(lambda client: client.accept_invitation(secret, given, confirm_unverified=yes_unverified))
    if app.out.json:
        app.out.document(document)
    else:
        app.out.line(f"{string(document.get('peer'))} may now dispatch to you: {scope_line(document.get('scopes'))}")
        app.out.note(f"to change or end it: `dispatch trust show {string(document.get('peer'))}`")
    return 0


def _explain(app: App, offer: Document) -> int:
    """Print the menu for somebody who must come back with --tools; return the exit code of wrong usage."""
    error = Invalid(
        "no tools were chosen, and nobody but you chooses them",
        fix="run it again with --tools, such as --tools Read,Glob,Grep",
    )
    if app.out.json:
        app.out.document({**offer, "error": error.to_json()})
        return 2
    _show_offer(app, offer)
    app.out.error(error)
    return 2


def _show_offer(app: App, offer: Document) -> None:
    who = string(offer.get("inviter"))
    app.out.line(f"{who} wants to be able to dispatch tasks to your machine. Choose what their agent may do here:")
    for item in offer.get("menu") or []:
        app.out.line(menu_line(item), indent=2)
    servers = offer.get("installed_mcp_servers") or []
    app.out.line(f"MCP servers installed now: {string(servers) if servers else 'none'}", indent=2)
    verified = "verified" if offer.get("verified") else "unverified: compare it with them"
    app.out.line(f"their fingerprint: {string(offer.get('fingerprint'))} ({verified})", indent=2)


def menu_line(item: object) -> str:
    """Return one line of the menu, whichever form the API gives it."""
    if isinstance(item, dict):
        number = item.get("number") or item.get("key")
        words = item.get("label") or item.get("text") or item.get("title")
        more = item.get("detail") or item.get("description")
        return f"{string(number)}  {string(words)}" + (f" ({more})" if more else "")
    return string(item)


def _ask_scope(app: App, offer: Document) -> dict[str, object] | None:
    """Ask the questions of the menu; return the scope, or None to decline. Ctrl-D decides nothing."""
    _show_offer(app, offer)
    try:
        answer = choose(app.out, "Which?", [(key, words) for key, words in _KEYS])
        if answer == "5":
            return None
        scope: dict[str, object] = {"tools": MENU[answer] if answer in MENU else line("Tools, with commas: ").strip()}
        if answer == "3":
            scope["mcp_servers"] = "*"
        elif answer == "4":
            scope["mcp_servers"] = line("MCP servers, with commas, or none: ").strip() or "none"
        auto = choose(app.out, "Approval?", [("1", "manual: you answer every call"), ("2", "auto: nobody is asked")])
        scope["approval"] = "auto" if auto == "2" else "manual"
        folders = line("Restrict to which folders? (with commas; nothing: only the one you confirm each time) ").strip()
    except NoAnswer:
        raise KeyboardInterrupt from None
    if folders:
        scope = {**scope, **chosen({"paths": folders})}
    return scope


_KEYS = (("1", "read-only"), ("2", "read and write"), ("3", "all"), ("4", "custom"), ("5", "decline"))


@click.command(
    cls=DispatchCommand, broker=True, example="dispatch decline-invitation 0198c0de-1111-7222-8333-444455556666"
)
@click.argument("token", metavar="TOKEN|LINK|-")
@pass_app
def decline_invitation(app: App, token: str) -> None:
    """Say no to an invitation. Nothing is granted, and the inviter is told."""
    secret = from_stdin(token).strip()
    _say_declined(app, app.ask(lambda client: client.decline_invitation(secret), signed_in=True))


def _say_declined(app: App, document: Document) -> None:
    if app.out.json:
        app.out.document(document)
    else:
        app.out.line("declined: nothing was granted")


@click.command(cls=DispatchCommand, broker=True, example="dispatch block mallory@example.org")
@click.argument("email", shell_complete=inviters)
@pass_app
def block(app: App, email: str) -> None:
    """Take no more invitations from the person at EMAIL."""
    document = app.ask(lambda client: client.block(email), signed_in=True)
    if app.out.json:
        app.out.document(document)
    else:
        app.out.line(f"blocked {email}")
