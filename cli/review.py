"""`changes`, `apply`, `discard`, `undo`: what a run changed in my folders, and what of it becomes theirs."""

from __future__ import annotations

from collections.abc import Iterator

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.dispatches import id_argument
from cli.home_folder import home
from cli.ids import resolve
from cli.output import Output, interactive, string
from cli.short_ids import short
from peer.client.blocking import Client, Document
from peer.dispatches.quoting import word
from peer.protocol.errors import NotFound

PAGE = 1_000
PATH_SHOWN = 300
"""Characters of a path."""

attempt_option = click.option(
    "--run", "attempt", metavar="N", type=click.IntRange(1), help="Which run; the last one by default."
)


@click.command(
    cls=DispatchCommand,
    example="dispatch changes 4e5f6a7b\ndispatch changes 4e5f6a7b --diff\ndispatch changes 4e5f6a7b --file src/app.py",
)
@id_argument
@click.option("--diff", is_flag=True, help="Show each change as a diff.")
@click.option("--file", "path", metavar="PATH", help="Show only this file, as a diff.")
@attempt_option
@pass_app
def changes(app: App, dispatch_id: str, diff: bool, path: str | None, attempt: int | None) -> None:
    """Show what a run changed in your folders, and which changes are applied.

    A run works on a view of a folder, and what it changed there waits for `dispatch apply`. On an edge with
    `--apply auto`, unmarked changes are applied when the run completes. A mark says why a change deserves a look.
    """
    identity = app.ask(lambda client: resolve(client, dispatch_id, directions=["received"]))
    document = _whole(app.client, identity, attempt)
    attempt = document["attempt"]
    entries: list[Document] = document["entries"]
    if path is not None:
        entries = [entry for entry in entries if path in (entry["path"], f"{entry['folder']}/{entry['path']}")]
        if not entries:
            raise NotFound(f"this run has no change of {path}", fix=f"see `dispatch changes {short(identity)}`")
    if diff or path is not None:
        entries = [app.client.change(identity, entry["number"], attempt=attempt) for entry in entries]
    if app.out.json:
        app.out.document({**document, "entries": entries})
        return
    show_changes(app.out, document, entries)


@click.command(
    cls=DispatchCommand,
    example="dispatch apply 4e5f6a7b --all\ndispatch apply 4e5f6a7b src/app.py Makefile\n"
    "dispatch apply 4e5f6a7b --all --marked --dry-run",
)
@id_argument
@click.argument("paths", metavar="[PATH]…", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All changes that have no mark.")
@click.option("--marked", is_flag=True, help="Marked changes too, with --all or in the folders given.")
@click.option("--dry-run", is_flag=True, help="Show what would happen, and change nothing.")
@attempt_option
@pass_app
def apply(
    app: App,
    dispatch_id: str,
    paths: tuple[str, ...],
    everything: bool,
    marked: bool,
    dry_run: bool,
    attempt: int | None,
) -> int:
    """Apply a run's changes to your folders: all that you choose, or none of them.

    A file that changed here in the meantime is never overwritten. PATH is one that `dispatch changes` lists, or a
    folder.
    """
    identity = app.ask(lambda client: resolve(client, dispatch_id, directions=["received"]))
    choice: Document = {"attempt": attempt, "paths": list(paths), "all": everything, "marked": marked}
    if interactive() and not app.out.json and not dry_run and not _confirmed(app, identity, choice):
        return 1
    document = app.client.apply(identity, **choice, dry_run=dry_run)
    if app.out.json:
        app.out.document(document)
        return 0 if document["ok"] else 1
    _show_applied(app.out, document, "would be applied" if dry_run else "applied")
    return 0 if document["ok"] else 1


@click.command(cls=DispatchCommand, example="dispatch discard 4e5f6a7b")
@id_argument
@attempt_option
@pass_app
def discard(app: App, dispatch_id: str, attempt: int | None) -> None:
    """Discard a run's waiting changes. What is applied stays, and can still be undone."""
    identity = app.ask(lambda client: resolve(client, dispatch_id, directions=["received"]))
    document = app.client.discard(identity, attempt=attempt)
    if app.out.json:
        app.out.document(document)
        return
    app.out.line(f"discarded the waiting changes of {short(identity)}")


@click.command(cls=DispatchCommand, example="dispatch undo 4e5f6a7b")
@id_argument
@attempt_option
@pass_app
def undo(app: App, dispatch_id: str, attempt: int | None) -> int:
    """Undo the changes of a run that were applied last. What you changed since stays as it is."""
    identity = app.ask(lambda client: resolve(client, dispatch_id, directions=["received"]))
    document = app.client.undo(identity, attempt=attempt)
    if app.out.json:
        app.out.document(document)
        return 0 if document["ok"] else 1
    for path in document["undone"]:
        app.out.line(f"undone: {word(path, limit=PATH_SHOWN)}")
    _show_refused(app.out, document["refused"], "stays")
    return 0 if document["ok"] else 1


def ask_landing(app: App, identity: str) -> None:
    """Ask on the terminal what becomes of the changes of a run that wait. No answer leaves them waiting."""
    from cli.prompts import decide

    document = _whole(app.client, identity, None)
    show_changes(app.out, document, document["entries"])
    options = {
        "1": "Apply the unmarked changes",
        "2": "Show all changes",
        "3": "Leave them waiting",
        "4": "Discard them",
    }
    unmarked = [entry for entry in document["entries"] if _lands(entry) and not entry["marks"]]
    if not unmarked:
        del options["1"]

    def look() -> None:
        shown = [app.client.change(identity, entry["number"]) for entry in document["entries"]]
        show_changes(app.out, document, shown)

    answer = decide(app.out, "What should happen to these changes?", options, look=look)
    if answer == "1":
        choice: Document = {"attempt": document["attempt"], "digest": document["digest"], "all": True}
        if _confirmed(app, identity, choice):
            _show_applied(app.out, app.client.apply(identity, **choice), "applied")
    elif answer == "4":
        app.client.discard(identity, attempt=document["attempt"])
        app.out.line("discarded")
    else:
        app.out.note(f"they are still waiting: `dispatch changes {short(identity)}`")


def _confirmed(app: App, identity: str, choice: Document) -> bool:
    """Whether the person wants what is chosen in place, asked only where some of it could not be taken back."""
    from cli.prompts import confirm

    final = app.client.apply(identity, **choice, dry_run=True)["irreversible"]
    if not final:
        return True
    _show_irreversible(app.out, final)
    if confirm("Apply it anyway?"):
        return True
    app.out.line("nothing was changed")
    return False


def _lands(entry: Document) -> bool:
    return not (entry["landed"] or entry["never"] or entry["conflict"] or entry["change"] == "folded")


def show_changes(out: Output, document: Document, entries: list[Document]) -> None:
    """Show the changes of a run, marked ones first."""
    from cli.display import standing

    folders = [str(each["folder"]) for each in document["folders"]]
    out.line(f"what run {document['attempt']} changed: {standing(document)}", style="bold")
    for each in document["network"]:
        out.line(f"over the network: {word(each['host'], limit=PATH_SHOWN)}: {string(each['use'])}")
    for sentence in document["incomplete"]:
        out.line(f"not known: {string(sentence)}", style="yellow")
    for folder in folders:
        of_this = [entry for entry in entries if entry["folder"] == folder]
        if of_this:
            out.line(home(string(folder)))
        for entry in sorted(of_this, key=lambda entry: (not entry["marks"], entry["number"])):
            _show_entry(out, entry)
    if document["waits"]:
        out.note(
            f"to apply them: `dispatch apply {short(document['dispatch_id'])} --all`, or name paths; "
            f"to discard them: `dispatch discard {short(document['dispatch_id'])}`"
        )


def _show_entry(out: Output, entry: Document) -> None:
    from cli.calls import show_diff

    change = str(entry["change"])
    details = [
        {
            "commits": f"{entry['count']:,} commit{'' if entry['count'] == 1 else 's'}",
            "folded": "filled by tools",
            "dropped": "never applied",
            "unread": "not readable",
        }.get(change, change)
    ]
    if entry["renamed_from"]:
        details.append(f"from {word(entry['renamed_from'], limit=PATH_SHOWN)}")
    if entry["target"]:
        details.append(f"link to {word(entry['target'], limit=PATH_SHOWN)}")
    if entry["count"] > 1 and change != "commits":
        details.append(f"{entry['count']:,} files")
    if (entry["change"] != "deleted" and entry["kind"] == "file") or entry["count"] > 1:
        details.append(f"{entry['size']:,} bytes")
    if entry["landed"]:
        details.append("applied")
    out.line(f"{word(entry['path'], limit=PATH_SHOWN)}  ({', '.join(details)})", indent=2)
    for branch in entry.get("branches") or []:
        kept = f"becomes {word(branch['ref'], limit=PATH_SHOWN)}"
        out.line(f"branch {word(branch['name'], limit=PATH_SHOWN)}: {kept}", indent=6)
    for mark in [] if entry["never"] else entry["marks"]:
        out.line(f"marked: {string(mark)}", indent=6, style="yellow")
    if entry["conflict"]:
        out.line(f"conflict: {string(entry['conflict'])}", indent=6, style="red")
    if entry["never"]:
        out.line(string(entry["never"]), indent=6, style="dim")
    if entry.get("diff"):
        show_diff(out, str(entry["diff"]))


def _show_applied(out: Output, document: Document, done: str) -> None:
    for path in document["landed"]:
        out.line(f"{done}: {word(path, limit=PATH_SHOWN)}")
    _show_irreversible(out, document["irreversible"])
    _show_refused(out, document["refused"], "cannot be applied")
    if document.get("dry_run"):
        return
    for command in document.get("merge") or []:
        out.note(f"to merge the commits into your current branch: `{command}`")
    if document["refused"]:
        out.line("nothing was changed", style="yellow")
        out.note(f"to apply the others, name them: `dispatch apply {short(document['dispatch_id'])} PATH`")
    elif left := len(document["left"]):
        out.note(f"{left} more {'waits' if left == 1 else 'wait'}: `dispatch changes {short(document['dispatch_id'])}`")


def _show_irreversible(out: Output, paths: list[str]) -> None:
    for path in paths:
        out.line(
            f"cannot be undone: {word(path, limit=PATH_SHOWN)}: its previous content is too large to keep",
            style="yellow",
        )


def _show_refused(out: Output, refused: list[Document], verb: str) -> None:
    for each in refused:
        out.line(f"{verb}: {word(each['path'], limit=PATH_SHOWN)}: {string(each['reason'])}", style="yellow")


def _whole(client: Client, identity: str, attempt: int | None) -> Document:
    """Return the list with all its pages."""
    document = client.changes(identity, attempt=attempt, limit=PAGE)
    entries = [*document["entries"], *_rest(client, identity, document)]
    return {**document, "entries": entries, "more": False, "next": None}


def _rest(client: Client, identity: str, document: Document) -> Iterator[Document]:
    while document["more"]:
        document = client.changes(identity, attempt=document["attempt"], limit=PAGE, after=document["next"])
        yield from document["entries"]
