"""`accept`, `decline`, `approvals`, `approve`, `deny`: a person's decisions on what was sent to this machine."""

from __future__ import annotations

from pathlib import Path

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.completion import request_ids
from cli.dispatches import id_argument
from cli.ids import matching, resolve, short
from cli.output import interactive, string
from peer.client.blocking import Client, Document
from peer.protocol.errors import Conflict, Invalid, NotFound


@click.command(
    cls=DispatchCommand, example="dispatch accept 4e5f6a7b\ndispatch accept 4e5f6a7b --cwd ~/code/shop --no-follow"
)
@id_argument
@click.option(
    "--cwd",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder it runs in; else the one folder that I granted, or an empty one.",
)
@click.option("--follow/--no-follow", default=None, help="Follow the run; on a terminal that is what happens.")
@pass_app
def accept(app: App, dispatch_id: str, cwd: Path | None, follow: bool | None) -> int:
    """Run a dispatch that was sent to me, confined to what I granted its sender.

    On a terminal the run is followed and each tool call that needs an answer is asked here. Otherwise the calls wait in
    `dispatch approvals`, two minutes each, and are denied after that. A run that was left is taken up again by the same
    command.
    """
    from cli.follow_run import confirmed_folder, follow_run, warn_of_obstacles
    from cli.prompts import confirm

    asks = interactive() and not app.out.json and follow is not False
    identity = app.ask(lambda client: resolve(client, dispatch_id, directions=["received"]))
    folder = str(cwd.expanduser().absolute()) if cwd else None
    if folder is None:
        offered = app.client.dispatch(identity)
        if asks and offered.get("direction") == "received" and offered.get("status") in ("accepted", "running"):
            app.out.line(f"{short(identity)} runs already: its calls are asked here")
            return follow_run(app, offered, asks=True)
        folder = confirmed_folder(app, offered, asks=asks)
    else:
        found = app.client.folder(identity, folder)
        if asks and found["link"]:
            real = str(found["cwd"])
            app.out.line(f"{string(folder)} leads through a symbolic link to {string(real)}")
            if not confirm("Run it there?"):
                app.out.line("not accepted: nothing runs")
                return 1
            folder = real
        warn_of_obstacles(app, found["obstacles"])
    document = app.client.accept(identity, cwd=folder)
    if not app.out.json:
        where = f" in {document['cwd']}" if document.get("cwd") else " in an empty workspace"
        runs = string(document.get("runs"))
        app.out.line(
            f"accepted {short(identity)}: {runs}" if document.get("runs") else f"accepted {short(identity)}{where}"
        )
    if asks or follow:
        return follow_run(app, document, asks=asks)
    if app.out.json:
        app.out.document(document)
    if document.get("approval") == "manual":
        app.out.warn(
            "every tool call of this run now waits for you in `dispatch approvals`, two minutes each, then is denied"
        )
    elif document.get("approval") == "review":
        app.out.warn(f"what this run returns waits for you: `dispatch release {short(identity)}`")
    return 0


@click.command(cls=DispatchCommand, example="dispatch decline 4e5f6a7b --reason 'not on this machine'")
@id_argument
@click.option("--reason", metavar="TEXT", help="Why, for the sender to read.")
@pass_app
def decline(app: App, dispatch_id: str, reason: str | None) -> None:
    """Refuse a dispatch that was sent to me; a run of it ends, and a held result is not sent. Its sender is told."""
    document = app.ask(
        lambda client: client.decline(resolve(client, dispatch_id, directions=["received"]), reason=reason)
    )
    if app.out.json:
        app.out.document(document)
        return
    app.out.line(f"declined {short(document['dispatch_id'])}")


@click.command(cls=DispatchCommand, example="dispatch approvals\ndispatch approvals --json")
@pass_app
def approvals(app: App) -> None:
    """List the tool calls that wait for an answer right now, whole, with the time left."""
    from cli.display import show_approval
    from peer.dispatches.asking import offered_rules, rule_text

    rows = app.ask(lambda client: client.approvals())
    if app.out.json:
        app.out.document(rows)
        return
    if not rows:
        app.out.line("no tool call waits for you", style="dim")
    for row in rows:
        show_approval(app.out, row)
        rules = offered_rules(row)
        if rules:
            app.out.line(f"--always would store: {rule_text(rules[0])}", indent=2)
        for number, rule in enumerate(rules[1:], 2):
            app.out.line(f"--always --rule {number}: {rule_text(rule)}", indent=2)
    if rows:
        app.out.note("to answer: `dispatch approve ID REQUEST` or `dispatch deny ID REQUEST`")


request_argument = click.argument("request_id", metavar="REQUEST", shell_complete=request_ids)


@click.command(
    cls=DispatchCommand, example="dispatch approve 4e5f6a7b r-2\ndispatch approve 4e5f6a7b r-2 --always --rule 2"
)
@id_argument
@request_argument
@click.option("--always", is_flag=True, help="Also store the rule that `approvals` shows, on the trust edge.")
@click.option("--session", is_flag=True, help="Also allow calls like it until this run ends.")
@click.option(
    "--rule",
    type=click.IntRange(1),
    metavar="N",
    help="Which rule of those in `approvals` is meant; else the first, the narrowest.",
)
@pass_app
def approve(app: App, dispatch_id: str, request_id: str, always: bool, session: bool, rule: int | None) -> None:
    """Allow one waiting tool call, once unless said otherwise."""
    if always and session:
        raise click.UsageError("--always and --session exclude each other")
    if rule is not None and not (always or session):
        raise click.UsageError("--rule goes with --always or --session")
    grant = "always" if always else "session" if session else "once"

    def ask(client: Client) -> Document:
        waiting = _waiting(client, dispatch_id, request_id)
        return client.approve(*waiting, grant=grant, rule=None if rule is None else rule - 1)

    document = app.ask(ask)
    stored = f": {_rule_text(document['rule'])}" if document.get("rule") else ""
    _show_answer(app, document, f"allowed ({grant}{stored})")


@click.command(cls=DispatchCommand, example="dispatch deny 4e5f6a7b r-2 --note 'use the copy in tests/'")
@id_argument
@request_argument
@click.option("--note", metavar="TEXT", help="What the agent is told, so that it can do better.")
@pass_app
def deny(app: App, dispatch_id: str, request_id: str, note: str | None) -> None:
    """Deny one waiting tool call. The run goes on without it."""
    document = app.ask(lambda client: client.deny(*_waiting(client, dispatch_id, request_id), note=note))
    _show_answer(app, document, "denied")


def _rule_text(rule: object) -> str:
    from peer.dispatches.asking import rule_text

    return rule_text(rule)


def _show_answer(app: App, document: Document, word: str) -> None:
    if app.out.json:
        app.out.document(document)
    else:
        app.out.line(f"{word}: {string(document.get('request_id'))}")


def _waiting(client: Client, dispatch_id: str, request_id: str) -> tuple[str, str]:
    """Return the full dispatch id and request id of the call that is meant. Raises Conflict, NotFound, Invalid."""
    rows = client.approvals()
    try:
        identity = resolve(client, dispatch_id, directions=["received"])
    except NotFound:
        named = matching(dispatch_id.strip().lower(), (row["dispatch_id"] for row in rows))
        if len(named) != 1:
            raise
        identity = named[0]
    requests = matching(request_id, (row["request_id"] for row in rows if row["dispatch_id"] == identity))
    if len(requests) > 1:
        raise Invalid(
            f"{request_id!r} fits {len(requests)} calls: {', '.join(requests)}", fix="give the whole request id"
        )
    if not requests and len(dispatch_id.strip()) < 36:
        raise Conflict(f"nothing pending: {short(identity)} has no open request {request_id!r}")
    return identity, requests[0] if requests else request_id
