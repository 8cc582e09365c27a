"""`receipt` and `verify-receipt`: a dispatch's signed parts as one file, and checking such a file, without a daemon."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.dispatches import id_argument
from cli.display import unknown_fields
from cli.ids import resolve
from cli.output import local_time, string
from cli.short_ids import short
from peer.client.blocking import Document
from peer.dispatches.quoting import MAX_REASON, quoted, word
from peer.protocol.errors import Conflict, Invalid, Unavailable

if TYPE_CHECKING:
    from peer.trust.receipts import Party, Proven

NOT_CHECKED = "not checked"
MATCHES = "matches"
NOT_PROVEN = (
    "when it happened: the times are those of the signers' clocks",
    "that no device had been revoked, before or since",
    "that the run went as the recipient's device reported it",
)
LATER = "what happened to the changes after the recipient's device reported this"


@click.command(
    cls=DispatchCommand,
    example="dispatch receipt 4e5f6a7b --out shop.receipt\ndispatch receipt 4e5f6a7b > shop.receipt",
)
@id_argument
@click.option(
    "--out",
    "out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The new file to write, readable by you alone.",
)
@pass_app
def receipt(app: App, dispatch_id: str, out: Path | None) -> None:
    """Export what was asked, decided, done and returned, each part signed, as one file that anyone can check.

    It holds the task, the trace, the reply and the last report on the changes. If the retention setting has removed the
    trace, it says that it is not complete. Without --out, it goes to standard output if that is a pipe or a file,
    otherwise (and with --json) to a new file `dispatch-ID.receipt`. Nothing is overwritten.
    """
    from peer.machine import identity
    from peer.store.receipts import open_receipt
    from peer.trust import receipts

    identifier = app.read(lambda source: source.dispatch(resolve(source, dispatch_id)))["dispatch_id"]
    found = open_receipt(app.folder, identity.load(app.folder).device_set, identifier)
    proven = receipts.verify(found)
    raw = receipts.encode(found)
    if not proven.complete:
        app.out.warn(_incomplete(proven.missing))
    if out is None and not app.out.json and not sys.stdout.isatty():
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
        return
    target = out or Path(f"dispatch-{short(identifier)}.receipt")
    _write(target, raw)
    if app.out.json:
        document = {"dispatch_id": identifier, "file": str(target.absolute()), "size": len(raw)}
        app.out.document(document | _completeness(proven))
        return
    app.out.line(f"{target} ({len(raw)} bytes, {proven.statements} signed statements)")
    app.out.note(f"to check it, here or on another machine: `dispatch verify-receipt {target}`")


@click.command(
    "verify-receipt",
    cls=DispatchCommand,
    sign_in=False,
    example="dispatch verify-receipt shop.receipt\n"
    "dispatch verify-receipt shop.receipt --root '49123 00915 48813 20012 91234 55555 10101 20202' --json",
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--root",
    "roots",
    metavar="FINGERPRINT",
    multiple=True,
    help="The fingerprint that one party must have, in digits or words; may be given for both parties.",
)
@pass_app
def verify_receipt(app: App, file: Path, roots: tuple[str, ...]) -> int:
    """Check a receipt: every signature, that the parts belong together, that nothing is missing from the trace.

    If a part was altered, it is named. If all events are left out, the rest is checked, and the receipt is reported as
    not complete. Exits with 1 in both cases. A receipt cannot show whose keys these are: compare the fingerprints with
    the people, or give those that you know with --root. Needs no daemon, no sign-in and no network.
    """
    from peer.machine.plain_file import read_plain
    from peer.trust import receipts

    try:
        proven = receipts.verify(receipts.decode(read_plain(file, limit=receipts.MAX_RECEIPT)))
    except Invalid as error:  # it is the receipt that is wrong, not the command
        app.out.error(error)
        return 1
    document = _document(proven, roots)
    if app.out.json:
        app.out.document(document)
    else:
        _show(app, document)
    return 0 if proven.complete else 1


def _document(proven: Proven, roots: tuple[str, ...]) -> Document:
    parties = {"sender": proven.sender, "recipient": proven.recipient}
    matched = dict.fromkeys(parties, False)
    for typed in roots:
        having = [name for name, party in parties.items() if party.has_root(typed)]
        if not having:
            raise Conflict(
                "the receipt is intact, but neither party's root key has the fingerprint given with --root",
                fix="it may come from other people with the same addresses: ask both parties for their fingerprints",
            )
        matched.update(dict.fromkeys(having, True))
    dispatch, result = proven.dispatch, proven.result
    return {
        "verified": True,
        "dispatch_id": dispatch.id,
        "status": result.status,
        "attempt": result.attempt,
        "sender": _party(proven.sender, matched["sender"]),
        "recipient": _party(proven.recipient, matched["recipient"]),
        "task": dispatch.content.task,
        "reply": result.reply,
        "reason": result.reason or None,
        "created": _time(dispatch.created),
        "ended": _time(result.created),
        "attached": [_file(item.name, item.size, item.digest) for item in dispatch.content.files],
        "returned": [_file(item.name, item.size, item.digest) for item in result.files],
        "landing": _landing(proven),
        "events": proven.events,
        "statements": proven.statements,
        "unseen_fields": list(proven.unseen),
        "unknown_fields": proven.unknown,
        "not_proven": [*NOT_PROVEN, *([LATER] if proven.landing else [])],
    } | _completeness(proven)


def _landing(proven: Proven) -> Document | None:
    from peer.store.lists import landing_document

    report = proven.landing
    if report is None:
        return None
    in_place, in_all = report.numbers or (None, None)
    told = landing_document(report.landed, in_place, in_all, report.created)
    return told | {"change_set": report.change_set.hex() or None}


def _completeness(proven: Proven) -> Document:
    return {"complete": proven.complete, "missing_batches": proven.missing}


def _incomplete(missing: int) -> str:
    batches = "one batch of events is" if missing == 1 else f"{missing} batches of events are"
    return f"this receipt is not complete: {batches} missing from it"


def _party(party: Party, matched: bool) -> Document:
    from peer.trust.fingerprints import fingerprint

    return {
        "user_id": party.user_id,
        "device_id": party.device,
        "fingerprint": str(fingerprint(party.root)),
        "root": MATCHES if matched else NOT_CHECKED,
    }


def _time(ms: int) -> str | None:
    from peer.store.lists import rfc3339

    try:
        return rfc3339(ms)
    except (ValueError, OverflowError):
        return None  # signed, but outside the years of a calendar


def _file(name: str, size: int, digest: bytes) -> Document:
    return {"name": name, "size": size, "sha256": digest.hex()}


def _show(app: App, document: Document) -> None:
    if document["complete"]:
        app.out.line(f"verified: {document['statements']} signed statements, {document['events']} events in one chain")
    else:
        app.out.line(f"verified: {document['statements']} signed statements, without the events")
        app.out.line(_incomplete(document["missing_batches"]), style="yellow")
    pairs = {
        "dispatch": string(document["dispatch_id"]),
        "status": string(document["status"]),
        "reason": quoted(document["reason"] or "", limit=MAX_REASON) or "-",
        "sent": f"{local_time(document['created'])}, by the sender's clock",
        "ended": f"{local_time(document['ended'])}, by the recipient's clock",
    }
    app.out.pairs({name: value for name, value in pairs.items() if value != "-"})
    for name in ("task", "reply"):
        if document[name]:
            app.out.line(f"{name}:", style="bold")
            app.out.quote(document[name])
    if told := document["landing"]:
        app.out.line(f"changes: {told['words']}, on {local_time(told['at'])} by the recipient's clock")
    for role in ("attached", "returned"):
        for file in document[role]:
            app.out.line(f"{role} {word(file['name'])} ({file['size']} bytes), SHA-256 {file['sha256']}")
    if document["unseen_fields"]:
        names = string(document["unseen_fields"])
        app.out.line(f"not seen by the recipient, whose version did not know them: {names}", style="yellow")
    if document["unknown_fields"]:
        app.out.line(unknown_fields(document["unknown_fields"]), style="yellow")
    for name in ("sender", "recipient"):
        party = document[name]
        app.out.line(f"{name}: {party['user_id']}, device {party['device_id']}")
        matched = "matches --root" if party["root"] == MATCHES else NOT_CHECKED
        style = "green" if party["root"] == MATCHES else "yellow"
        app.out.line(f"root key {party['fingerprint']}: {matched}", indent=2, style=style)
    for line in document["not_proven"]:
        app.out.line(f"not proven: {line}", style="dim")


def _write(target: Path, raw: bytes) -> None:
    """Make a new file with this content, readable by its owner alone, since it contains task and reply."""
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Conflict(f"{target} already exists", fix="choose another file with --out FILE") from None
    except OSError as error:
        raise Unavailable(
            f"can't write {target}: {error.strerror}", fix="choose another file with --out FILE"
        ) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        target.unlink(missing_ok=True)
        raise Unavailable(f"can't write {target}: {error.strerror}", fix="free some space") from error
