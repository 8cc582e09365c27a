"""`send`: composing one dispatch and following it. The daemon signs and queues it, and checks its limits."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from cli.app import App
from cli.base import DispatchCommand, from_stdin, pass_app, raw_option, without_mark
from cli.completion import recipients
from cli.durations import Duration
from cli.ids import resolve
from cli.output import local_time, string
from cli.short_ids import short
from cli.values import when, when_exactly
from peer.client.blocking import Document
from peer.protocol.content import DEFAULT_EXPIRES, MAX_EXPIRES, MIN_EXPIRES, TEXTS
from peer.protocol.errors import Invalid

FROM_FILE = ("background",)
MAX_TEXT_FILE = 1 << 20
"""Bytes: more than any text of a dispatch may have; how much more is said by its own limit."""
"""Texts that may be given as @FILE."""

F = TypeVar("F", bound=Callable[..., object])


def _text_options(command: F) -> F:
    """Add an option to the command for each optional text of a dispatch."""
    for text in reversed(TEXTS):
        words = text.description[:1].upper() + text.description[1:]
        metavar, more = ("TEXT|@FILE", "; @FILE reads a file") if text.name in FROM_FILE else ("TEXT", "")
        command = click.option(f"--{text.name}", default="", metavar=metavar, help=f"{words}{more}.")(command)
    return command


@click.command(
    cls=DispatchCommand,
    example="dispatch send bob@example.org 'Why does the build of shop fail?' --wait\n"
    "dispatch send bob@example.org - --file report.csv --background @notes.md < task.txt",
)
@click.argument("recipient", shell_complete=recipients)
@click.argument("task")
@click.option(
    "--expires",
    type=Duration(MIN_EXPIRES, MAX_EXPIRES),
    default=DEFAULT_EXPIRES,
    show_default=True,
    metavar="SECONDS|1h",
    help=f"How long the recipient has to accept it: {MIN_EXPIRES} to {MAX_EXPIRES} seconds, or 30m, 24h.",
)
@click.option(
    "--meta", multiple=True, metavar="KEY=VALUE", help="A key and value for the recipient to see; may be repeated."
)
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="A file to send along; may be repeated.",
)
@click.option("--link", "links", multiple=True, metavar="URL", help="A URL to read; may be repeated.")
@_text_options
@click.option("--device", default="", metavar="PEER_ID", help="The recipient's device to send it to.")
@click.option("--parent", default="", metavar="ID", help="The dispatch that this one follows up on.")
@click.option("--wait", is_flag=True, help="Wait until it ends and print the result; exit with 0 only if it completed.")
@raw_option
@pass_app
def send(
    app: App,
    /,
    recipient: str,
    task: str,
    expires: int,
    meta: tuple[str, ...],
    files: tuple[Path, ...],
    links: tuple[str, ...],
    device: str,
    parent: str,
    wait: bool,
    raw: bool,
    **texts: str,
) -> int:
    """Send TASK, verbatim, to RECIPIENT: a contact's e-mail address or alias. `-` reads the task from standard input.

    Returns at once. The task waits here until the recipient's machine is online, and there until they accept it.
    """
    _refuse_swapped(recipient, task)
    words = without_mark(from_stdin(task, verbatim=True))
    texts |= {name: text_of_file(name, texts[name]) for name in FROM_FILE}
    pairs = pairs_of(meta)
    paths = tuple(str(_readable(path)) for path in files)
    document = app.ask(
        lambda client: client.send(
            recipient,
            words,
            expires=expires,
            meta=pairs,
            files=paths,
            links=links,
            device=device,
            parent=resolve(client, parent) if parent else "",
            **texts,
        ),
        signed_in=True,
    )
    if not wait:
        if app.out.json:
            app.out.document(document)
        else:
            _show_sent(app, recipient, document)
        return 0
    if not app.out.json:
        _show_sent(app, recipient, document)
    app.out.raw = raw
    return wait_for_end(app, document)


def _refuse_swapped(recipient: str, task: str) -> None:
    """Raise Invalid where the task stands in the recipient's place and an address in the task's."""
    if re.search(r"\s", recipient) and re.fullmatch(r"[^\s@]+@[^\s@]+", task):
        raise Invalid("the recipient comes first, then the task", fix=f"`dispatch send {task} '…'`")


def wait_for_end(app: App, document: Document) -> int:
    """Follow a dispatch to its end and print its result; return 0 only when it completed."""
    from cli.display import LiveView

    view = LiveView(app.out)
    identity = document["dispatch_id"]
    try:
        for event in app.client.events(identity):
            if not app.out.json and event.kind != "approval":
                view.event(event.kind, event.data)
    except KeyboardInterrupt:
        from cli.follow_run import say_how_to_return

        say_how_to_return(app, identity, asks=False)
        raise
    final = app.client.dispatch(identity)
    if app.out.json:
        app.out.document({**document, **final})
    else:
        view.end(final)
    return 0 if final.get("status") == "completed" else 1


def pairs_of(given: tuple[str, ...]) -> dict[str, str]:
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


def text_of_file(name: str, given: str) -> str:
    """Return an option's text, read from the file for `@FILE`. Raises Invalid."""
    if not given.startswith("@"):
        return given
    from peer.machine.plain_file import read_plain

    path = Path(given[1:])
    try:
        return without_mark(read_plain(path, limit=MAX_TEXT_FILE).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Invalid(f"can't read the {name} from {path}: {error}", fix="give a text file in UTF-8") from error


def _readable(path: Path) -> Path:
    """Return the absolute path, since the daemon, which reads the file, has another working directory."""
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file() raises for a name that is too long
        there = os.path.exists(path)  # noqa: PTH110 - as above
        wrong = f"{path} is not a regular file" if there else f"there is no file {path}"
        raise Invalid(wrong, fix="check the path; `--file` takes one file, and may be repeated")
    return path.absolute()


def _show_sent(app: App, recipient: str, document: Document) -> None:
    app.out.line(f"dispatched {short(document['dispatch_id'])} to {recipient} ({string(document.get('status'))})")
    deadline = document.get("expires_at")
    if document.get("peer_online"):
        left = when(deadline).removeprefix("in ")
        app.out.line(f"they are online; they have until {local_time(deadline)} ({left}) to accept it")
    else:
        app.out.line(f"they are not online; it is delivered when they are, and expires {when_exactly(deadline)}")
    if document.get("left_out"):
        names = string(document["left_out"])
        app.out.line(f"left out, because their version of dispatch does not know it: {names}", style="yellow")
    if document.get("unverified"):
        app.out.warn(
            f"the key of {recipient} is not verified: it could belong to whoever runs the broker or reads their mail. "
            f"Compare this fingerprint with them, by phone or in person: {string(document['unverified'])}"
        )
    app.out.note(f"to follow it: `dispatch watch {short(document['dispatch_id'])}`")
