"""`release`: what a run returned on an edge with `--approval review`, looked at and then sent."""

from __future__ import annotations

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.dispatches import id_argument
from cli.ids import resolve
from cli.output import string
from cli.short_ids import short
from peer.client.blocking import Document
from peer.protocol.errors import Conflict
from peer.protocol.outcomes import PARTS


@click.command(
    cls=DispatchCommand,
    example="dispatch release 4e5f6a7b --show\ndispatch release 4e5f6a7b\ndispatch release 4e5f6a7b --without files",
)
@id_argument
@click.option("--show", is_flag=True, help="Show what would be sent, and send nothing.")
@click.option(
    "--without",
    type=click.Choice(PARTS),
    multiple=True,
    help="Leave out a part. Without the reply or the files, the trace is left out too: it repeats them.",
)
@pass_app
def release(app: App, dispatch_id: str, show: bool, without: tuple[str, ...]) -> None:
    """Send a held result to the dispatch's sender.

    On an edge with `--approval review`, a result is held until you release it. Until then, the sender knows only that
    the run has ended. To send nothing: `dispatch decline ID`.
    """
    identity = app.ask(lambda client: resolve(client, dispatch_id, directions=["received"]))
    if show:
        document = app.client.dispatch(identity)
        if not document.get("held"):
            raise Conflict(
                f"{short(identity)} has no held result (it is {document.get('status')})",
                fix=f"see `dispatch status {short(identity)}`",
            )
        events = _events(app, identity)
        if app.out.json:
            app.out.document({**document["held"], "dispatch_id": identity, "events": events})
        else:
            show_outgoing(app, document, events)
        return
    document = app.client.release(identity, without=without)
    if app.out.json:
        app.out.document(document)
        return
    app.out.line(f"released the result of {short(identity)}{_left_out(document['without'])}")


def ask_release(app: App, document: Document) -> None:
    """Ask on the terminal what becomes of a held result. No answer leaves it waiting. `document`: of the dispatch."""
    from cli.prompts import decide

    identity, peer = str(document["dispatch_id"]), string(document.get("peer"))
    options = {
        "1": f"Send it to {peer}",
        "2": "Show what would be sent",
        "3": "Leave it waiting",
        "4": "Send nothing: decline the dispatch",
    }
    answer = decide(
        app.out,
        "What should happen to the result?",
        options,
        look=lambda: show_outgoing(app, document, _events(app, identity)),
    )
    if answer == "1":
        app.client.release(identity)
        app.out.line(f"sent to {peer}")
    elif answer == "4":
        app.client.decline(identity)
        app.out.line("declined: nothing of the result is sent")
    else:
        app.out.note(f"it is still held: `dispatch release {short(identity)}` or `dispatch decline {short(identity)}`")


def show_outgoing(app: App, document: Document, events: list[Document]) -> None:
    """Show a held result as its sender would get it: every event, the reply, the files."""
    from cli.display import show_event, show_returned

    app.out.line(f"would be sent to {string(document.get('peer'))}:", style="bold")
    for event in events:
        show_event(app.out, "trace", event)
    show_returned(app.out, document["held"])
    if any(file.get("name") == "changes.diff" for file in document["held"]["files"]):
        app.out.note(
            f"changes.diff has the lines that the run changed in your folders: `dispatch changes "
            f"{short(document['dispatch_id'])} --diff` shows them"
        )


def _events(app: App, identity: str) -> list[Document]:
    page = app.client.held(identity)
    found: list[Document] = page["events"]
    while page["more"]:
        page = app.client.held(identity, after=page["next"])
        found += page["events"]
    return found


def _left_out(parts: list[str]) -> str:
    return f", without its {' and its '.join(parts)}" if parts else ""
