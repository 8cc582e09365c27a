"""`watch`: one dispatch followed live, from either side."""

from __future__ import annotations

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app, raw_option
from cli.dispatches import id_argument
from cli.display import LiveView
from cli.follow_run import follow_run, say_how_to_return
from cli.ids import resolve
from cli.output import interactive


@click.command(cls=DispatchCommand, example="dispatch watch 4e5f6a7b\ndispatch watch 4e5f6a7b --json | jq .kind")
@id_argument
@raw_option
@pass_app
def watch(app: App, dispatch_id: str, raw: bool) -> None:
    """Follow one dispatch live, from its first event until it ends. Ctrl-C stops watching, not the run.

    On a terminal, you are asked here about the tool calls of a dispatch that was sent to you. With --json, it prints
    one document a line: {"kind", "id", "data"}.
    """
    identity = app.ask(lambda client: resolve(client, dispatch_id))
    if app.out.json:
        for event in app.client.events(identity):
            app.out.document({"kind": event.kind, "id": event.id, "data": event.data}, one_line=True)
        return
    if interactive() and (document := app.client.dispatch(identity)).get("direction") == "received":
        follow_run(app, document, asks=True, raw=raw)
        return
    app.out.raw = raw
    view = LiveView(app.out)
    try:
        for event in app.client.events(identity):
            view.event(event.kind, event.data)
    except KeyboardInterrupt:
        say_how_to_return(app, identity, asks=False)
        raise
    view.end(app.client.dispatch(identity))
