"""`invite`, `invitations`, `accept-invitation`, `decline-invitation`, `block`: how a trust edge comes to be, or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import click

from cli.app import App, Source
from cli.base import DispatchCommand, DispatchGroup, from_stdin, limit_option, pass_app
from cli.completion import everyone
from cli.display import scope_line, show_histories, show_network, unknown_fields
from cli.ids import FULL, check, the_one
from cli.listing import note_of_more
from cli.output import interactive, string
from cli.prompts import NoAnswer, choose, line
from cli.scope_options import confirm_by_proxy, confirm_unverified, given_scope, powerful_grants, scope_options
from cli.short_ids import short
from cli.values import when
from peer.client.blocking import Document
from peer.protocol.errors import Invalid, NotFound

LISTED = "`dispatch invitations` lists the tokens"
Box = Literal["sent", "received"]


@click.command(cls=DispatchCommand, example="dispatch invite bob@example.org")
@click.argument("email")
@pass_app
def invite(app: App, email: str) -> None:
    """Ask the person at EMAIL to let you dispatch to them. They choose what they grant, if anything."""
    document = app.ask(lambda client: client.invite(email), signed_in=True)
    if app.out.json:
        app.out.document(document)
        return
    to, address = string(document.get("to")), string(document.get("link"))
    if document.get("existing"):
        app.out.line(f"nothing changed: you already have an open invitation to {string(document.get('to'))}")
    elif document.get("emailed"):
        app.out.line(f"invited {to}: the broker mailed the invitation")
    else:
        app.out.line(f"invited {to}: no mail was sent")
    if page := document.get("page"):
        leads = "the mail links to" if document.get("emailed") else "give them this link to"
        app.out.line(f"{leads} a page that says what dispatch is and how to install it:")
        app.out.line(string(page), indent=2)
    if document.get("link"):
        app.out.line("to prove who you both are, also give them this address, in a way that only they can read:")
        app.out.line(address, indent=2)
        app.out.line("they run `dispatch join -` and paste it", style="dim")
    if document.get("token"):
        app.out.note(f"to take it back: `dispatch invitations withdraw {short(document['token'])}`")
        app.out.note("to see its progress: `dispatch invitations`")


@click.group(
    cls=DispatchGroup,
    invoke_without_command=True,
    example="dispatch invitations\ndispatch invitations --all\ndispatch invitations withdraw 55556666",
)
@click.option("--all", "ended", is_flag=True, help="Also show those that were answered, withdrawn, or have expired.")
@limit_option
@click.option("--before", metavar="TOKEN", help="Only those older than this token: the next page.")
@click.pass_context
def invitations(ctx: click.Context, ended: bool, limit: int | None, before: str | None) -> None:
    """List the invitations that wait for an answer, sent and received, with their tokens."""
    if ctx.invoked_subcommand is not None:
        return
    app = ctx.find_object(App)
    assert app is not None

    def page(source: Source) -> Document:
        start = _older_than(source, before, ended=ended) if before else None
        return source.invitations(ended=ended, limit=limit, before=start)

    document = app.read(page)
    if app.out.json:
        app.out.document(document)
        return
    app.out.line("sent", style="bold")
    app.out.table(
        ["token", "to", "progress", "expires"],
        [
            [short(row.get("token")), string(row.get("to")), _progress(row), when(row.get("expires"))]
            for row in document["sent"]
        ],
        wraps="to",
        empty="  none",
    )
    app.out.line("received", style="bold")
    app.out.table(
        ["token", "from", "status", "expires", "verified", "fingerprint"],
        [
            [
                short(row.get("token")),
                string(row.get("from")),
                string(row.get("status")),
                when(row.get("expires")),
                string(bool(row.get("verified"))),
                string(row.get("fingerprint")),
            ]
            for row in document["received"]
        ],
        wraps="fingerprint",
        empty="  none",
    )
    note_of_more(app, document)
    for row in document["sent"]:
        if row.get("progress") == "not_mailed" and row.get("page"):
            app.out.line(
                f"no mail was sent to {string(row.get('to'))}: give them {string(row.get('page'))}", style="yellow"
            )
    others = [
        *((row.get("to"), "the broker brought an answer from {}") for row in document["sent"] if _is_other_key(row)),
        *((row.get("from"), "there is an invitation from {}") for row in document["received"] if row.get("other_key")),
    ]
    for who, what in dict.fromkeys(others):
        known = f"{what.format(string(who))} under a different root key from the one you know"
        app.out.line(known, style="yellow")
        app.out.note(
            "ask them in person or by phone whether they made a new one; if they did: "
            f"`dispatch trust forget-key {string(who)}`"
        )
    for row in document["received"]:
        if row.get("unknown_fields"):
            app.out.line(f"{string(row.get('token'))}: {unknown_fields(row['unknown_fields'])}", style="yellow")
    if document["received"]:
        app.out.note("to answer: `dispatch accept-invitation TOKEN` or `dispatch decline-invitation TOKEN`")


def _older_than(source: Source, before: str, *, ended: bool) -> str:
    """Return the whole token that the page starts after. Raises Invalid, NotFound."""
    wanted = check(before, "an invitation's token", "the whole token", "`dispatch invitations`")
    if len(wanted) == FULL:
        return wanted
    return the_one(wanted, tokens(source.invitations(ended=ended)), kind="invitation", listed=LISTED)


def tokens(document: Document) -> list[tuple[str, str]]:
    """Return the tokens of all listed invitations, each with the other person's address."""
    sent = [(str(row["token"]), str(row.get("to"))) for row in document["sent"]]
    return sent + [(str(row["token"]), str(row.get("from"))) for row in document["received"]]


def _is_other_key(row: Document) -> bool:
    return row.get("progress") == "other_key"


def _progress(row: Document) -> str:
    """How far a sent invitation is, in words."""
    words = {
        "not_mailed": "not mailed",
        "mailed": "handed to the mail server",
        "fetched": f"received by their device {when(row.get('fetched'))}",
        "other_key": "answered, under a different key",
    }
    return words.get(str(row.get("progress")), string(row.get("progress") or row.get("status")))


@invitations.command("withdraw", example="dispatch invitations withdraw 0198c0de-1111-7222-8333-444455556666")
@click.argument("token")
@pass_app
def withdraw(app: App, token: str) -> None:
    """Take back an invitation that you sent, before it is answered."""
    named = _named(app, token, "sent")
    document = app.ask(lambda client: client.withdraw_invitation(named), signed_in=True)
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
    """Let the inviter dispatch to this machine, within a scope that you choose.

    --tools is required, because only you choose: without it, the choices are shown. The defaults for the rest are: no
    MCP servers, you answer every call, 50 dispatches a day; 60 minutes, 100 turns, 5 USD and 100 MB a run. `-` reads
    the token or the `dispatch:` address from standard input, which keeps the secret in it out of process lists.
    """
    return answer(app, _named(app, token, "received"), flags, yes_unverified=yes_unverified).code


class Answered(NamedTuple):
    """How an invitation was answered: the exit code, and whether an edge was granted."""

    code: int
    granted: bool


def answer(app: App, secret: str, flags: Mapping[str, object], *, yes_unverified: bool) -> Answered:
    """Accept or decline an invitation, by the flags of a scope or the person's answers; elsewhere show the menu."""
    given = given_scope(flags)
    if "tools" in given:
        return _grant(app, secret, given, None, flags, yes_unverified=yes_unverified)
    offer = app.ask(lambda client: client.accept_invitation(secret, {}))
    if not interactive() or app.out.json:
        return Answered(_show_menu(app, offer), granted=False)
    while True:
        chosen = _ask_scope(app, offer)
        if chosen is None:
            _show_declined(app, app.client.decline_invitation(secret))
            return Answered(0, granted=False)
        try:
            return _grant(app, secret, {**chosen, **given}, offer, flags, yes_unverified=yes_unverified)
        except Invalid as error:
            if given:  # it may be a flag that is wrong, which no other answer mends
                raise
            app.out.error(error)


def _grant(
    app: App,
    secret: str,
    given: dict[str, object],
    offer: Document | None,
    flags: Mapping[str, object],
    *,
    yes_unverified: bool,
) -> Answered:
    """Accept with this scope, after a second yes where the key is unverified and the grant powerful, and where this
    machine's HTTP proxy resolves the names of hosts. Raises Invalid.
    """
    if found := powerful_grants(given):
        offer = offer or app.ask(lambda client: client.accept_invitation(secret, {}))
        if not offer.get("verified"):
            confirm_unverified(
                app.out, string(offer.get("inviter")), offer.get("fingerprint"), found, yes=yes_unverified
            )
            yes_unverified = True
    by_proxy: list[str] = []
    if "network" in given:
        asked = app.ask(lambda client: client.accept_invitation(secret, given, unconfirmed=True))
        by_proxy = confirm_by_proxy(app.out, asked.get("by_proxy") or [], flags.get("yes_by_proxy"))
    document = app.ask(
        lambda client: client.accept_invitation(
            secret, given, confirm_unverified=yes_unverified, confirm_by_proxy=by_proxy
        )
    )
    if app.out.json:
        app.out.document(document)
    else:
        from peer.trust.menu import FOLDERS

        app.out.line(f"{string(document.get('peer'))} may now dispatch to you: {scope_line(document.get('scopes'))}")
        if (document.get("scopes") or {}).get("paths"):
            app.out.note(FOLDERS)
        show_network(app.out, document)
        show_histories(app.out, document)
        app.out.note(string(document.get("standing")))
        app.out.note(f"to change or end it: `dispatch trust show {string(document.get('peer'))}`")
    return Answered(0, granted=True)


def _show_menu(app: App, offer: Document) -> int:
    """Print the menu where nobody can be asked, with --tools as the fix; return the exit code of wrong usage."""
    error = Invalid(
        "no tools were chosen, and only you can choose them",
        fix="run it again with --tools, such as --tools Read,Glob,Grep",
    )
    if app.out.json:
        app.out.document({**offer, "error": error.to_json()})
        return 2
    from peer.trust.menu import AFTERWARDS

    _show_offer(app, offer)
    app.out.line(AFTERWARDS)
    app.out.error(error)
    return 2


def _show_offer(app: App, offer: Document) -> None:
    from peer.trust.menu import heading, menu

    app.out.line(heading(string(offer.get("inviter"))))
    for item in menu(_servers(offer)):
        app.out.line(f"{item.number}  {item.title} ({item.explains})", indent=2)
    for reason in offer.get("mcp_servers_left_out") or []:
        app.out.line(f"cannot be granted: {string(reason)}", indent=2)
    app.out.line(f"their fingerprint: {string(offer.get('fingerprint'))}")
    app.out.line(string(offer.get("standing")))


def _servers(offer: Document) -> list[str]:
    """Return the names of the MCP servers that could be granted now."""
    found = offer.get("installed_mcp_servers") or []
    return [str(server["name"] if isinstance(server, dict) else server) for server in found]


def _ask_scope(app: App, offer: Document) -> dict[str, object] | None:
    """Ask the questions of the menu; return the scope, or None to decline. Ctrl-D ends without either."""
    from peer.trust.menu import APPROVALS, FOLDERS, menu

    _show_offer(app, offer)
    items = {str(item.number): item for item in menu(_servers(offer))}
    try:
        item = items[choose(app.out, "Which?", list(items))]
        if item.kind == "decline":
            return None
        scope: dict[str, object] = {"tools": ",".join(item.tools), "mcp_servers": ",".join(item.mcp_servers) or "none"}
        if item.kind == "custom":
            scope["tools"] = line("Tools, comma-separated: ").strip()
            scope["mcp_servers"] = line("MCP servers, comma-separated, or none: ").strip() or "none"
        for mode, meaning in APPROVALS.items():
            app.out.line(f"{mode}: {meaning}", indent=2)
        scope["approval"] = choose(app.out, "Approval mode?", list(APPROVALS), default="manual")
        app.out.line(FOLDERS, indent=2)
        folders = line(
            "Restrict to which folders? (comma-separated; Enter: only the one you confirm each time) "
        ).strip()
    except NoAnswer:
        raise KeyboardInterrupt from None
    return {**scope, **given_scope({"paths": folders})} if folders else scope


@click.command(cls=DispatchCommand, example="dispatch decline-invitation 0198c0de-1111-7222-8333-444455556666")
@click.argument("token", metavar="TOKEN|ADDRESS|-")
@pass_app
def decline_invitation(app: App, token: str) -> None:
    """Decline an invitation. Nothing is granted, and the inviter is told."""
    secret = _named(app, token, "received")
    _show_declined(app, app.ask(lambda client: client.decline_invitation(secret), signed_in=True))


def _show_declined(app: App, document: Document) -> None:
    if app.out.json:
        app.out.document(document)
    else:
        app.out.line("declined: nothing was granted")


def _named(app: App, given: str, box: Box) -> str:
    """Return the whole token, or the address, that `given` means: `-`, either, or a part of a listed token.

    Raises Invalid, before the daemon is asked, for what can be neither; NotFound.
    """
    from peer.trust import invitation_address

    pasted = invitation_address.cleaned(from_stdin(given, one_line=True))
    if ":" in pasted or len(pasted) > FULL:
        invitation_address.parse(pasted)
        return pasted
    wanted = check(pasted, "an invitation's token or address", "the whole address or token", "`dispatch invitations`")
    if len(wanted) == FULL:
        invitation_address.parse(wanted)
        return wanted
    who = "to" if box == "sent" else "from"

    def named(*, ended: bool) -> str:
        rows = app.ask(lambda client: client.invitations(ended=ended), signed_in=True)[box]
        known = ((str(row["token"]), str(row.get(who))) for row in rows)
        return the_one(wanted, known, kind="invitation", listed=LISTED)

    try:
        return named(ended=False)
    except NotFound:
        return named(ended=True)  # whoever uses it says how it ended


@click.command(cls=DispatchCommand, example="dispatch block mallory@example.org")
@click.argument("peer", shell_complete=everyone)
@pass_app
def block(app: App, peer: str) -> None:
    """Refuse everything from PEER, an e-mail address or alias, and end what you granted to them."""
    document = app.ask(lambda client: client.block(peer), signed_in=True)
    if app.out.json:
        app.out.document(document)
    else:
        who = string(document.get("peer"))
        app.out.line(f"blocked {who}")
        app.out.note(f"to undo it: `dispatch unblock {who}`")


@click.command(cls=DispatchCommand, example="dispatch unblock mallory@example.org")
@click.argument("peer", shell_complete=everyone)
@pass_app
def unblock(app: App, peer: str) -> None:
    """Let PEER invite you again. What the block ended stays ended."""
    document = app.ask(lambda client: client.unblock(peer), signed_in=True)
    if app.out.json:
        app.out.document(document)
    else:
        app.out.line(f"unblocked {string(document.get('peer'))}: they may invite you again")
