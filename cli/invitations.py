"""`invite`, `invitations`, `accept-invitation`, `decline-invitation`, `block`: how a trust edge comes to be, or not."""

from __future__ import annotations

import click

from cli.app import App
from cli.base import DispatchCommand, DispatchGroup, from_stdin, pass_app
from cli.completion import inviters
from cli.display import scope_line, unknown_fields
from cli.output import interactive, local_time, string
from cli.prompts import NoAnswer, choose, line
from cli.scope_options import confirm_unverified, given_scope, powerful_grants, scope_options
from peer.client.blocking import Document
from peer.protocol.errors import Invalid


@click.command(cls=DispatchCommand, broker=True, example="dispatch invite bob@example.org")
@click.argument("email")
@pass_app
def invite(app: App, email: str) -> None:
    """Ask the person at EMAIL to let me dispatch to them. Nothing is granted until they choose what."""
    document = app.ask(lambda client: client.invite(email), signed_in=True)
    if app.out.json:
        app.out.document(document)
        return
    to, address = string(document.get("to")), string(document.get("link"))
    if document.get("existing"):
        app.out.line(f"nothing changed: your invitation to {string(document.get('to'))} is open already")
    elif document.get("emailed"):
        app.out.line(f"invited {to}: the broker has mailed it")
    else:
        app.out.line(f"invited {to}: no mail was sent")
    if document.get("link"):
        app.out.line("give them this address yourself, in a way that only they can read: it proves who you both are")
        app.out.line(address, indent=2)
        app.out.line("they type `dispatch accept-invitation -` and paste it", style="dim")
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
    for row in document["received"]:
        if row.get("unknown_fields"):
            app.out.line(f"{string(row.get('token'))}: {unknown_fields(row['unknown_fields'])}", style="yellow")
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
    "dispatch accept-invitation - --tools Read,Glob,Grep --paths ~/code/shop --expires 30d < address.txt",
)
@click.argument("token", metavar="TOKEN|ADDRESS|-")
@scope_options
@pass_app
def accept_invitation(app: App, /, token: str, yes_unverified: bool, **flags: object) -> int:
    """Let the inviter dispatch to this machine, within a scope that I choose.

    --tools is required, because nobody but you chooses: without it the choices are shown. What is not said is the
    least: no MCP servers, every call answered by you, 50 a day; 60 minutes, 100 turns, 5 USD and 100 MB a run. `-`
    reads the token or the `dispatch:` address from standard input, which keeps its secret out of lists of processes.
    """
    secret = from_stdin(token, one_line=True).strip()
    given = given_scope(flags)
    offer: Document | None = None
    if "tools" not in given:
        offer = app.ask(lambda client: client.accept_invitation(secret, {}))
        if not interactive() or app.out.json:
            return _show_menu(app, offer)
        answer = _ask_scope(app, offer)
        if answer is None:
            _show_declined(app, app.client.decline_invitation(secret))
            return 0
        given = {**answer, **given}
    if found := powerful_grants(given):
        offer = offer or app.ask(lambda client: client.accept_invitation(secret, {}))
        if not offer.get("verified"):
            confirm_unverified(
                app.out, string(offer.get("inviter")), offer.get("fingerprint"), found, yes=yes_unverified
            )
            yes_unverified = True
    document = app.ask(lambda client: client.accept_invitation(secret, given, confirm_unverified=yes_unverified))
    if app.out.json:
        app.out.document(document)
    else:
        app.out.line(f"{string(document.get('peer'))} may now dispatch to you: {scope_line(document.get('scopes'))}")
        app.out.note(f"to change or end it: `dispatch trust show {string(document.get('peer'))}`")
    return 0


def _show_menu(app: App, offer: Document) -> int:
    """Print the menu where nobody can be asked, with --tools as the fix; return the exit code of wrong usage."""
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
    from peer.trust.menu import AFTERWARDS, heading, menu

    app.out.line(heading(string(offer.get("inviter"))))
    for item in menu(_servers(offer)):
        app.out.line(f"{item.number}  {item.title} ({item.explains})", indent=2)
    for reason in offer.get("mcp_servers_left_out") or []:
        app.out.line(f"not to be granted: {string(reason)}", indent=2)
    app.out.line(AFTERWARDS)
    verified = "verified" if offer.get("verified") else "unverified: compare it with them"
    app.out.line(f"their fingerprint: {string(offer.get('fingerprint'))} ({verified})")


def _servers(offer: Document) -> list[str]:
    """Return the names of the MCP servers that could be granted now."""
    found = offer.get("installed_mcp_servers") or []
    return [str(server["name"] if isinstance(server, dict) else server) for server in found]


def _ask_scope(app: App, offer: Document) -> dict[str, object] | None:
    """Ask the questions of the menu; return the scope, or None to decline. Ctrl-D ends without either."""
    from peer.trust.menu import menu

    _show_offer(app, offer)
    items = {str(item.number): item for item in menu(_servers(offer))}
    try:
        item = items[choose(app.out, "Which?", list(items))]
        if item.kind == "decline":
            return None
        scope: dict[str, object] = {"tools": ",".join(item.tools), "mcp_servers": ",".join(item.mcp_servers) or "none"}
        if item.kind == "custom":
            scope["tools"] = line("Tools, with commas: ").strip()
            scope["mcp_servers"] = line("MCP servers, with commas, or none: ").strip() or "none"
        app.out.line("manual: you answer every call; auto: nobody is asked", indent=2)
        scope["approval"] = choose(app.out, "Approval?", ["manual", "auto"])
        folders = line("Restrict to which folders? (with commas; nothing: only the one you confirm each time) ").strip()
    except NoAnswer:
        raise KeyboardInterrupt from None
    return {**scope, **given_scope({"paths": folders})} if folders else scope


@click.command(
    cls=DispatchCommand, broker=True, example="dispatch decline-invitation 0198c0de-1111-7222-8333-444455556666"
)
@click.argument("token", metavar="TOKEN|ADDRESS|-")
@pass_app
def decline_invitation(app: App, token: str) -> None:
    """Say no to an invitation. Nothing is granted, and the inviter is told."""
    secret = from_stdin(token, one_line=True).strip()
    _show_declined(app, app.ask(lambda client: client.decline_invitation(secret), signed_in=True))


def _show_declined(app: App, document: Document) -> None:
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
