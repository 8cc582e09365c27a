"""`send`: compose, sign (the daemon does) and queue one dispatch. Its limits are checked where it is signed."""

from __future__ import annotations

from pathlib import Path

import click

from cli.app import App
from cli.base import DispatchCommand, from_stdin, pass_app
from cli.completion import recipients
from cli.ids import resolve, short
from cli.output import local_time, string
from peer.client.blocking import Document
from peer.protocol.errors import Invalid


@click.command(
    cls=DispatchCommand,
    broker=True,
    example="dispatch send bob@example.org 'Why does the build of shop fail?' --wait\n"
    "dispatch send bob@example.org - --file report.csv --background @notes.md < task.txt",
)
@click.argument("recipient", shell_complete=recipients)
@click.argument("task")
@click.option(
    "--expires",
    type=click.IntRange(60, 86400),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="How long it may wait to be accepted: 60 to 86400.",
)
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="A pair for the recipient to see; may be repeated.")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="A file to send along; may be repeated.",
)
@click.option("--project", metavar="NAME", help="What the project is called; the recipient's side finds the folder.")
@click.option("--link", "links", multiple=True, metavar="URL", help="Something to read; may be repeated.")
@click.option("--deliverable", metavar="TEXT", help="What done looks like.")
@click.option("--background", metavar="TEXT|@FILE", help="What a stranger must know to begin; @FILE reads a file.")
@click.option("--device", metavar="PEER_ID", help="Which of the recipient's devices.")
@click.option("--parent", metavar="ID", help="The dispatch that this one follows.")
@click.option("--wait", is_flag=True, help="Wait for the end and print the result; exit 0 only when completed.")
@pass_app
def send(
    app: App,
    recipient: str,
    task: str,
    expires: int,
    meta: tuple[str, ...],
    files: tuple[Path, ...],
    project: str | None,
    links: tuple[str, ...],
    deliverable: str | None,
    background: str | None,
    device: str | None,
    parent: str | None,
    wait: bool,
) -> int:
    """Send TASK, verbatim, to RECIPIENT: a contact's e-mail address or alias. `-` reads the task from standard input.

    Returns at once; the task waits here until the recipient's machine is up, and there until they accept it.
    """
    words = from_stdin(task)
    known = background_text(background)
    pairs = metadata(meta)
    paths = [str(_readable(path)) for path in files]
    document = app.ask(
        lambda client: client.send(
            recipient,
            words,
            expires_in_seconds=expires,
            meta=pairs,
            files=paths,
            project=project,
            links=links,
            deliverable=deliverable,
            background=known,
            device=device,
            parent_id=resolve(client, parent) if parent else None,
        ),
        signed_in=True,
    )
    if not wait:
        if app.out.json:
            app.out.document(document)
        else:
            _say_sent(app, recipient, document)
        return 0
    if not app.out.json:
        _say_sent(app, recipient, document)
    return wait_for_end(app, document)


def wait_for_end(app: App, document: Document) -> int:
    """Follow a dispatch to its end and print its result; return 0 only when it completed."""
    from cli.display import show_event, show_result

    identity = document["dispatch_id"]
    for event in app.client.events(identity):
        if not app.out.json and event.kind != "approval":
            show_event(app.out, event.kind, event.data)
    final = app.client.dispatch(identity)
    if app.out.json:
        app.out.document({**document, **final})
    else:
        show_result(app.out, final)
    return 0 if final.get("status") == "completed" else 1


def metadata(given: tuple[str, ...]) -> dict[str, str]:
    """Return KEY=VALUE arguments as pairs. Raises UsageError."""
    pairs: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--meta takes KEY=VALUE, not {item!r}")
        if key in pairs:
            raise click.UsageError(f"--meta {key} is given twice")
        pairs[key] = value
    return pairs


def background_text(given: str | None) -> str | None:
    """Return the background, from the file when it is `@FILE`. Raises Invalid."""
    if given is None or not given.startswith("@"):
        return given
    path = Path(given[1:])
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise Invalid(f"can't read the background from {path}: {error}", fix="give a text file in UTF-8") from error


def _readable(path: Path) -> Path:
    """Return the path from / on: the daemon, which reads the file, stands in another directory."""
    if not path.is_file():
        raise Invalid(f"there is no file {path}", fix="--file takes files, each by itself")
    return path.absolute()


def _say_sent(app: App, recipient: str, document: Document) -> None:
    app.out.line(f"dispatched {short(document['dispatch_id'])} to {recipient} ({string(document.get('status'))})")
    deadline = local_time(document.get("expires_at"))
    if document.get("peer_online"):
        app.out.line(f"they are online; they may accept it until {deadline}")
    else:
        app.out.line(f"they are not online: it is delivered when they are, and expires on {deadline}")
    if document.get("left_out"):
        names = string(document["left_out"])
        app.out.line(f"left out, as their device does not understand it: {names}", style="yellow")
    app.out.note(f"to follow it: `dispatch watch {short(document['dispatch_id'])}`")
