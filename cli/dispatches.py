"""`sent`, `inbox`, `status`, `cancel`: reading dispatches, and stopping one. `send` and `watch` are elsewhere."""

from __future__ import annotations

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app, raw_option
from cli.completion import dispatch_ids
from cli.ids import resolve
from cli.listing import PAGE, show_list
from cli.output import string
from cli.short_ids import short

STATES = (
    "queued",
    "pending",
    "accepted",
    "running",
    "held",
    "completed",
    "failed",
    "declined",
    "cancelled",
    "expired",
    "rejected",
)

status_option = click.option("--status", type=click.Choice(STATES), help="Only those with this status.")
limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=PAGE, show_default=True, help="How many to show at most."
)
before_option = click.option("--before", metavar="ID", help="Only those older than this id: the next page.")
id_argument = click.argument("dispatch_id", metavar="ID", shell_complete=dispatch_ids)


@click.command(cls=DispatchCommand, example="dispatch inbox --status pending\ndispatch inbox --limit 20 --json")
@status_option
@limit_option
@before_option
@pass_app
def inbox(app: App, status: str | None, limit: int, before: str | None) -> None:
    """List the dispatches sent to you, newest first."""
    show_list(app, "received", status=status, limit=limit, before=before)


@click.command(cls=DispatchCommand, example="dispatch sent --status completed")
@status_option
@limit_option
@before_option
@pass_app
def sent(app: App, status: str | None, limit: int, before: str | None) -> None:
    """List the dispatches you sent, newest first."""
    show_list(app, "sent", status=status, limit=limit, before=before)


@click.command(cls=DispatchCommand, example="dispatch status 4e5f6a7b\ndispatch status 4e5f6a7b --json")
@id_argument
@raw_option
@pass_app
def status(app: App, dispatch_id: str, raw: bool) -> None:
    """Show one dispatch: its status, what was sent, its full trace, and its result."""
    document = app.read(lambda source: source.dispatch(resolve(source, dispatch_id)))
    if app.out.json:
        app.out.document(document)
        return
    from cli.display import show_dispatch

    app.out.raw = raw
    show_dispatch(app.out, document)


@click.command(cls=DispatchCommand, example="dispatch cancel 4e5f6a7b --reason 'no longer needed'")
@id_argument
@click.option("--reason", metavar="TEXT", help="The reason, which the other side sees.")
@pass_app
def cancel(app: App, dispatch_id: str, reason: str | None) -> None:
    """Stop a dispatch before it ends, whether you sent or received it. A run is killed; a held result is not sent."""
    document = app.ask(lambda client: client.cancel(resolve(client, dispatch_id), reason=reason))
    if app.out.json:
        app.out.document(document)
        return
    app.out.line(f"{string(document.get('status', 'cancelled'))} {short(document['dispatch_id'])}")
