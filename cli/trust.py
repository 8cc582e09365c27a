"""`contacts`, `alias` and `trust …`: listing trust edges, changing and ending those that this person granted."""

from __future__ import annotations

import click

from cli.app import App
from cli.base import DispatchCommand, DispatchGroup, limit_option, pass_app
from cli.completion import everyone, inviters
from cli.display import scope_line, scope_pairs, show_histories, show_network
from cli.listing import note_of_more
from cli.output import interactive, string
from cli.prompts import confirm
from cli.scope_options import MB, confirm_by_proxy, confirm_unverified, given_scope, powerful_grants, scope_options
from cli.values import how_connected, when
from peer.client.blocking import DaemonUnreachable, Document
from peer.dispatches.asking import rule_text
from peer.protocol.errors import Conflict


@click.group(
    cls=DispatchGroup,
    invoke_without_command=True,
    example="dispatch contacts\ndispatch contacts --json\n"
    "dispatch contacts add-address bob@example.org /ip4/192.0.2.7/tcp/4001",
)
@limit_option
@click.option("--before", metavar="ID", help="Only those after this trust_link_id: the next page.")
@click.pass_context
def contacts(ctx: click.Context, limit: int | None, before: str | None) -> None:
    """List the trust edges both ways: who may dispatch to you, and to whom you may dispatch."""
    if ctx.invoked_subcommand is not None:
        return
    app = ctx.find_object(App)
    assert app is not None
    document = app.read(lambda source: source.contacts(limit=limit, before=before))
    if app.out.json:
        app.out.document(document)
        return
    app.out.table(
        ["peer", "direction", "status", "scope", "online", "verified", "path"],
        [
            [
                string(row.get("peer")) + (f" ({row['alias']})" if row.get("alias") else ""),
                "they → you" if row.get("direction") == "incoming" else "you → them",
                string(row.get("status")),
                scope_line(row.get("scopes")),
                string(bool(row.get("peer_online"))),
                string(bool(row.get("verified"))),
                how_connected(row),
            ]
            for row in document["trust"]
        ],
        wraps="scope",
        empty="nobody yet: `dispatch invite EMAIL` asks someone to let you dispatch to them",
    )
    note_of_more(app, document)
    typed = {each: row for row in document["trust"] for each in row.get("addresses_typed") or []}
    if typed:
        app.out.line("addresses that you added", style="bold")
        app.out.table(
            ["peer", "address"],
            [[string(row.get("peer")), string(each)] for each, row in typed.items()],
            wraps="address",
            empty="",
        )
    for peer in dict.fromkeys(string(row.get("peer")) for row in document["trust"] if row.get("key_forgotten")):
        app.out.line(
            f"key forgotten: {peer} (to take the new one: `dispatch invite {peer}`, or answer their invitation)"
        )
    if blocked := document.get("blocked"):
        app.out.line(f"blocked: {string(blocked)} (to undo it: `dispatch unblock PEER`)")


address_argument = click.argument("multiaddr", metavar="MULTIADDR")


@contacts.command(
    "add-address",
    short_help="Reach PEER at an address of your choice.",
    example="dispatch contacts add-address bob@example.org /ip4/192.0.2.7/tcp/4001",
)
@click.argument("peer", shell_complete=everyone)
@address_argument
@pass_app
def add_address(app: App, peer: str, multiaddr: str) -> None:
    """Try to reach PEER at an address of your choice first, before those that PEER announces.

    MULTIADDR is an IP address and a TCP port, on any network. It stands for every device that PEER has now, unless its
    /p2p/ part names one.
    """
    document = app.ask(lambda client: client.add_address(peer, multiaddr))
    _show_done(app, document, f"{string(document['peer'])} is tried at {string(document['address'])} first")


@contacts.command("remove-address", example="dispatch contacts remove-address bob@example.org /ip4/192.0.2.7/tcp/4001")
@click.argument("peer", shell_complete=everyone)
@address_argument
@pass_app
def remove_address(app: App, peer: str, multiaddr: str) -> None:
    """Forget an address that you added for PEER."""
    document = app.ask(lambda client: client.remove_address(peer, multiaddr))
    _show_done(app, document, f"{string(document['peer'])} is no longer tried at {string(document['address'])}")


@click.command(
    cls=DispatchCommand, example="dispatch alias bob@example.org Bob\ndispatch alias bob@example.org --remove"
)
@click.argument("peer", shell_complete=everyone)
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="Remove the alias.")
@pass_app
def alias(app: App, peer: str, name: str | None, remove: bool) -> None:
    """Give a contact a NAME of your own, which every command takes instead of the address. Nobody else sees it."""
    if (name is None) is not remove:
        raise click.UsageError("give a NAME, or --remove")
    document = app.ask(lambda client: client.name_contact(peer, name or ""))
    if app.out.json:
        app.out.document(document)
    elif name:
        app.out.line(f"{string(document['peer'])} is called {string(document['alias'])} here")
    else:
        app.out.line(f"{string(document['peer'])} has no alias")


@click.group(cls=DispatchGroup, example="dispatch trust show alice@example.org")
def trust() -> None:
    """Show, change or end what you granted to someone."""


peer_argument = click.argument("peer", shell_complete=inviters)


@trust.command(
    "show", short_help="Show what PEER may do here, and its rules.", example="dispatch trust show alice@example.org"
)
@peer_argument
@pass_app
def show(app: App, peer: str) -> None:
    """Show what PEER may do on this machine, and the rules that `--always` stored."""
    _show(app, app.ask(lambda client: client.trust(peer)))


@trust.command(
    "edit",
    example="dispatch trust edit alice@example.org --tools Read,Glob,Grep\n"
    "dispatch trust edit alice@example.org --expires 30d --max-per-day 5",
)
@peer_argument
@scope_options
@click.option(
    "--remove-rule",
    type=int,
    metavar="RULE",
    help="Remove a rule that `--always` stored, by its number in `dispatch trust show`; running tasks lose it too.",
)
@pass_app
def edit(app: App, /, peer: str, yes_unverified: bool, remove_rule: int | None, **flags: object) -> None:
    """Change what PEER may do here. What you leave out stays as it is; without options, it shows the scope."""
    changes = given_scope(flags)
    if remove_rule is not None:
        changes["remove_rule"] = remove_rule
    current = app.ask(lambda client: client.trust(peer))
    if not changes:
        _show(app, current)
        return
    found = powerful_grants(changes, current.get("scopes"))
    would_be: Document = {}
    if found and ("network" in changes or not current.get("verified")):
        # Rules that fall away with the same edit are not among these. An unconfirmed edit that permits more changes
        # nothing; that of a rule would.
        scope = {name: value for name, value in changes.items() if name != "remove_rule"}
        would_be = app.ask(lambda client: client.edit_trust(peer, scope, unconfirmed=True))
    if found and not current.get("verified"):
        confirm_unverified(
            app.out,
            string(current.get("peer")),
            current.get("fingerprint"),
            found,
            rules=[rule_text(rule) for rule in would_be.get("rules") or []],
            yes=yes_unverified,
        )
        yes_unverified = True
    asked = would_be.get("by_proxy") if would_be.get("status") == "confirmation_required" else None
    by_proxy = confirm_by_proxy(app.out, asked or [], flags["yes_by_proxy"])
    edited = app.ask(
        lambda client: client.edit_trust(peer, changes, confirm_unverified=yes_unverified, confirm_by_proxy=by_proxy)
    )
    _show(app, edited)
    if "paths" in changes and (edited.get("scopes") or {}).get("paths") and not app.out.json:
        from peer.trust.menu import FOLDERS

        app.out.note(FOLDERS)


@trust.command("pause", example="dispatch trust pause alice@example.org")
@peer_argument
@pass_app
def pause(app: App, peer: str) -> None:
    """Refuse what PEER sends until you resume."""
    _show_done(app, app.ask(lambda client: client.pause_trust(peer)), f"paused: {peer} may not dispatch to you for now")


@trust.command("resume", example="dispatch trust resume alice@example.org")
@peer_argument
@pass_app
def resume(app: App, peer: str) -> None:
    """Let PEER dispatch to you again, as before the pause."""
    _show_done(app, app.ask(lambda client: client.resume_trust(peer)), f"resumed: {peer} may dispatch to you again")


@trust.command("revoke", short_help="End what you granted to PEER.", example="dispatch trust revoke alice@example.org")
@peer_argument
@pass_app
def revoke(app: App, peer: str) -> None:
    """End what you granted to PEER: running work is killed, and the rest is refused. Works without the daemon too."""
    try:
        document = app.client.revoke_trust(peer)
    except DaemonUnreachable:
        if not app.folder.store.exists():
            raise
        from peer.programs import offline_revoke

        document = offline_revoke.revoke(app.folder, peer)
        app.out.note(
            "the daemon is not running: the revocation is stored, and applies before the daemon does anything else"
        )
    _show_done(app, document, f"revoked: {peer} may no longer dispatch to you")


@trust.command(
    "forget-key",
    short_help="Take a new key from PEER, who lost the old one.",
    example="dispatch trust forget-key bob@example.org",
)
@click.argument("peer", shell_complete=everyone)
@click.option("--undo", is_flag=True, help="Believe the key again that you forgot. What PEER may do here stays ended.")
@click.option("--yes", is_flag=True, help="Forget it without asking.")
@pass_app
def forget_key(app: App, peer: str, undo: bool, yes: bool) -> None:
    """Forget the root key by which you know PEER, who lost every device that had it.

    Ends every permission between the two of you, and what is under way. Dispatches and receipts stay. PEER's next
    answer or invitation that you take brings the new key; compare its fingerprint. Do it only if you know from PEER, in
    person or by phone, that they have a new one: whoever reads their mail could otherwise take their place.
    """
    if undo:
        document = app.ask(lambda client: client.believe_key_again(peer))
        _show_done(
            app,
            document,
            f"{string(document['peer'])} is known by the same key as before; what they may do here stays ended",
        )
        return
    known = None if yes else _row_of(app, peer)
    if known is not None and not known.get("key_forgotten"):  # what else is wrong is said by the daemon
        who = string(known.get("peer")) + (f" ({string(known['alias'])})" if known.get("alias") else "")
        if app.out.json or not interactive():
            raise Conflict(
                f"this ends everything between you and {who}",
                fix="ask them in person or by phone whether they have a new key, then run it again with --yes",
            )
        app.out.line("This ends every permission between the two of you, and what is under way.")
        app.out.line(f"the key to forget: {string(known.get('fingerprint'))}")
        if not confirm(f"Did {who} tell you in person or by phone that they have a new key?"):
            app.out.line("nothing was changed")
            return
    document = app.ask(lambda client: client.forget_key(peer))
    who = string(document["peer"])
    _show_done(app, document, f"forgotten: nothing under that key of {who} is accepted any more")
    if app.out.json:
        return
    if document.get("answered"):
        app.out.note(
            "their answer to your invitation, under another key, is taken now; compare its fingerprint with them: "
            "`dispatch contacts --json` has it"
        )
    else:
        app.out.note(f"to take the new one: `dispatch invite {who}`, or answer their invitation")


def _row_of(app: App, peer: str) -> Document | None:
    """Return the row of `contacts` that an address or alias names."""
    rows = app.ask(lambda client: client.contacts())["trust"]
    return next((row for row in rows if peer in (row.get("peer"), row.get("alias"))), None)


def _show_done(app: App, document: Document, words: str) -> None:
    if app.out.json:
        app.out.document(document)
    else:
        app.out.line(words)


def _budgets(budgets: Document) -> str:
    """Return what one run may take, by the units of the flags that change it."""
    megabytes = int(budgets.get("output_bytes", 0)) / MB
    return (
        f"{string(budgets.get('minutes'))} minutes, {string(budgets.get('turns'))} turns, "
        f"{budgets.get('usd', 0):g} USD, {megabytes:g} MB returned, "
        f"{int(budgets.get('network_bytes', 0)) / MB:g} MB over the network"
    )


def _show(app: App, document: Document) -> None:
    if app.out.json:
        app.out.document(document)
        return
    known = {
        "peer": string(document.get("peer")),
        "status": string(document.get("status")),
        "verified": string(bool(document.get("verified"))),
        "fingerprint": string(document.get("fingerprint")),
        **scope_pairs(document),
        "per run": _budgets(document.get("budgets") or {}),
    }
    app.out.pairs({name: value for name, value in known.items() if name != "fingerprint" or value != "-"})
    show_network(app.out, document)
    show_histories(app.out, document)
    rules = document.get("rules") or []
    if rules:
        app.out.line(
            "rules stored by `--always` (to remove one: `dispatch trust edit PEER --remove-rule RULE`)", style="bold"
        )
        app.out.table(
            ["rule", "allows", "since"],
            [[string(rule.get("id")), rule_text(rule), when(rule.get("created"))] for rule in rules],
            wraps="allows",
            empty="",
        )
    if servers := document.get("pinned_servers"):
        app.out.line(
            "MCP servers as you granted them; if a command or its tools change, you are asked again", style="bold"
        )
        app.out.table(
            ["server", "started as", "tools"],
            [
                [
                    string(server.get("name")),
                    string(server.get("command")),
                    "not started yet" if server.get("tools") is None else string(server["tools"]),
                ]
                for server in servers
            ],
            wraps="tools",
            empty="",
        )
