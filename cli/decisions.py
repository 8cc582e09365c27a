"""`accept`, `decline`, `approvals`, `approve`, `deny`: a person's decisions on what was sent to this machine."""

from __future__ import annotations

from pathlib import Path

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app, raw_option
from cli.completion import request_ids
from cli.dispatches import id_argument
from cli.home_folder import home
from cli.ids import FULL, matching, resolve
from cli.output import interactive, string
from cli.short_ids import short, short_request
from peer.client.blocking import Client, Document
from peer.protocol.errors import Conflict, Invalid, NotFound

RUNS = ("accepted", "running")


@click.command(
    cls=DispatchCommand, example="dispatch accept 4e5f6a7b\ndispatch accept 4e5f6a7b --cwd ~/code/shop --no-follow"
)
@id_argument
@click.option(
    "--cwd",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder to run in; by default the one folder that you granted, or an empty workspace.",
)
@click.option(
    "--follow/--no-follow", default=None, help="Follow the run, or not; on a terminal, following is the default."
)
@raw_option
@pass_app
def accept(app: App, dispatch_id: str, cwd: Path | None, follow: bool | None, raw: bool) -> int:
    """Run a dispatch that was sent to you, confined to what you granted its sender.

    On a terminal, you follow the run and are asked here about each tool call that needs an answer. Otherwise the calls
    wait in `dispatch approvals`, and each is denied after two minutes. Ctrl-C leaves the run going; the same command
    follows it again.
    """
    from cli.follow_run import confirmed_folder, follow_run, warn_of_obstacles
    from cli.prompts import confirm

    asks = interactive() and not app.out.json and follow is not False
    identity = app.ask(lambda client: resolve(client, dispatch_id, directions=["received"]))
    folder = str(cwd.expanduser().absolute()) if cwd else None
    offered = app.client.dispatch(identity) if folder is None or asks else None
    if asks and offered and offered.get("direction") == "received" and offered.get("status") in RUNS:
        where = ", in the folder where it started" if folder else ""
        app.out.line(f"{short(identity)} is already running{where}: you are asked about its calls here")
        return follow_run(app, offered, asks=True, raw=raw)
    if folder is None:
        assert offered is not None
        folder = confirmed_folder(app, offered, asks=asks)
    else:
        found = app.client.folder(identity, folder)
        if asks and found["link"]:
            real = str(found["cwd"])
            app.out.line(f"{home(string(folder))} leads through a symbolic link to {home(string(real))}")
            if not confirm("Run it there?"):
                app.out.line("not accepted: nothing runs")
                return 1
            folder = real
        warn_of_obstacles(app, found["obstacles"])
    document = app.client.accept(identity, cwd=folder)
    if not app.out.json:
        where = f" in {home(document['cwd'])}" if document.get("cwd") else " in an empty workspace"
        runs = f": {string(document['runs'])}" if document.get("runs") else where
        app.out.line(f"accepted {short(identity)}{runs}")
    if asks or follow:
        return follow_run(app, document, asks=asks, raw=raw)
    if app.out.json:
        app.out.document(document)
    if document.get("approval") == "manual":
        app.out.warn(
            "every tool call of this run waits for you in `dispatch approvals`, and is denied after two minutes"
        )
    elif document.get("approval") == "review":
        app.out.warn(f"the result of this run is held until you release it: `dispatch release {short(identity)}`")
    return 0


@click.command(cls=DispatchCommand, example="dispatch decline 4e5f6a7b --reason 'not on this machine'")
@id_argument
@click.option("--reason", metavar="TEXT", help="The reason, which the sender sees.")
@pass_app
def decline(app: App, dispatch_id: str, reason: str | None) -> None:
    """Refuse a dispatch that was sent to you. The sender is told.

    If it is running, the run is stopped. A held result is not sent.
    """
    document = app.ask(
        lambda client: client.decline(resolve(client, dispatch_id, directions=["received"]), reason=reason)
    )
    if app.out.json:
        app.out.document(document)
        return
    app.out.line(f"declined {short(document['dispatch_id'])}")


@click.command(cls=DispatchCommand, example="dispatch approvals\ndispatch approvals --list")
@click.option("--list", "lists", is_flag=True, help="List them without asking.")
@pass_app
def approvals(app: App, lists: bool) -> None:
    """Answer the tool calls that are waiting, one after the other; Enter skips one.

    In a pipe, with --list or with --json, they are listed, with the time left to answer each.
    """
    rows = app.ask(lambda client: client.approvals())
    if app.out.json:
        app.out.document(rows)
        return
    if not rows:
        app.out.line("no tool call is waiting for you", style="dim")
        return
    from cli.asking import ask_each, listed

    if interactive() and not lists:
        ask_each(app, rows)
        return
    listed(app, rows)
    app.out.note("to answer: `dispatch approve ID` or `dispatch deny ID`; if several wait, also give the REQUEST")


request_argument = click.argument("request_id", metavar="[REQUEST]", required=False, shell_complete=request_ids)


@click.command(
    cls=DispatchCommand,
    example="dispatch approve 4e5f6a7b\ndispatch approve 4e5f6a7b 7c11a9f0 --always\n"
    "dispatch approve 4e5f6a7b 7c11a9f0 --always --rule 2",
)
@id_argument
@request_argument
@click.option("--always", is_flag=True, help="Also store the rule that `dispatch approvals` shows, on the trust edge.")
@click.option("--session", is_flag=True, help="Also allow calls like it until this run ends.")
@click.option(
    "--rule",
    type=click.IntRange(1),
    metavar="N",
    help="Which of the rules that `dispatch approvals` shows; by default the first, which is the narrowest.",
)
@pass_app
def approve(app: App, dispatch_id: str, request_id: str | None, always: bool, session: bool, rule: int | None) -> int:
    """Allow a waiting tool call: once, unless you say otherwise.

    You can leave out REQUEST if only one call of the dispatch is waiting. If several are, they are listed, and on a
    terminal you are asked which one you mean. On a terminal, --always shows the rule and asks before storing it.
    """
    if always and session:
        raise click.UsageError("use either --always or --session, not both")
    if rule is not None and not (always or session):
        raise click.UsageError("--rule needs --always or --session")
    grant = "always" if always else "session" if session else "once"
    call = app.ask(lambda client: _waiting(app, client, dispatch_id, request_id))
    if always and not _wants_rule(app, call, rule):
        app.out.line("not answered: the call is still waiting")
        return 1
    document = app.client.approve(
        call["dispatch_id"], call["request_id"], grant=grant, rule=None if rule is None else rule - 1
    )
    stored = f": {_rule_text(document['rule'])}" if document.get("rule") else ""
    _show_answer(app, document, call, f"allowed ({grant}{stored})")
    if document.get("rule") and always and not app.out.json:
        from cli.calls import removal

        app.out.note(removal(call))
    return 0


@click.command(
    cls=DispatchCommand,
    example="dispatch deny 4e5f6a7b\ndispatch deny 4e5f6a7b 7c11a9f0 --note 'use the copy in tests/'",
)
@id_argument
@request_argument
@click.option("--note", metavar="TEXT", help="A note to the agent, such as what to do instead.")
@pass_app
def deny(app: App, dispatch_id: str, request_id: str | None, note: str | None) -> None:
    """Deny a waiting tool call. The run goes on without it.

    You can leave out REQUEST if only one call of the dispatch is waiting.
    """
    call = app.ask(lambda client: _waiting(app, client, dispatch_id, request_id))
    _show_answer(app, app.client.deny(call["dispatch_id"], call["request_id"], note=note), call, "denied")


def _rule_text(rule: object) -> str:
    from peer.dispatches.asking import rule_text

    return rule_text(rule)


def _wants_rule(app: App, call: Document, rule: int | None) -> bool:
    """Show on a terminal the rule that would be stored, and ask; elsewhere the flag is the answer."""
    from cli.prompts import confirm
    from peer.dispatches.asking import offered_rules

    rules = offered_rules(call)[(rule or 1) - 1 :][:1]
    if not (rules and interactive()) or app.out.json:
        return True
    from cli.calls import show_rules

    show_rules(app.out, rules, call)
    return confirm("Store it?")


def _show_answer(app: App, document: Document, call: Document, words: str) -> None:
    if app.out.json:
        app.out.document(document)
        return
    from peer.dispatches.summary import summary

    what = f": {summary(call)}" if call.get("tool") else ""
    app.out.line(f"{words}{what} (request {short_request(string(document.get('request_id')))})")


def _waiting(app: App, client: Client, dispatch_id: str, request_id: str | None) -> Document:
    """Return the waiting call that is meant; where only the daemon knows it, its two ids.

    Raises Conflict, NotFound, Invalid.
    """
    rows = client.approvals()
    try:
        identity = resolve(client, dispatch_id, directions=["received"])
    except NotFound:
        named = matching(dispatch_id.strip().lower(), (row["dispatch_id"] for row in rows))
        if len(named) != 1:
            raise
        identity = named[0]
    of_it = {str(row["request_id"]): row for row in rows if row["dispatch_id"] == identity}
    if request_id is None:
        return _only(app, identity, list(of_it.values()))
    requests = matching(request_id, of_it)
    if len(requests) > 1:
        raise Invalid(
            f"{request_id!r} matches {len(requests)} calls: {', '.join(requests)}", fix="give the whole request id"
        )
    if requests:
        return of_it[requests[0]]
    if len(dispatch_id.strip()) < FULL:
        raise Conflict(f"nothing pending: {short(identity)} has no open request {request_id!r}")
    return {"dispatch_id": identity, "request_id": request_id}


def _only(app: App, identity: str, calls: list[Document]) -> Document:
    """Return the only waiting call of a dispatch; of several, the one that a person picks. Raises Conflict, Invalid."""
    if len(calls) == 1:
        return calls[0]
    if not calls:
        raise Conflict(f"nothing pending: no tool call of {short(identity)} is waiting for an answer")
    from peer.dispatches.summary import summary

    ids = [str(call["request_id"]) for call in calls]
    named = {short_request(each, ids): call for each, call in zip(ids, calls, strict=True)}
    if not app.out.json:
        for number, (request, call) in enumerate(named.items(), 1):
            app.out.option(str(number), f"{request}  {summary(call)}")
    if interactive() and not app.out.json:
        from cli.prompts import NoAnswer, choose

        try:
            return calls[int(choose(app.out, "Which one?", [str(number) for number, _ in enumerate(calls, 1)])) - 1]
        except NoAnswer:
            raise KeyboardInterrupt from None
    raise Invalid(
        f"{len(calls)} calls of {short(identity)} are waiting: {', '.join(named)}",
        fix=f"name one: `dispatch approve {short(identity)} {next(iter(named))}`",
    )
