"""`fetch`: returned files, hash-verified, into a new folder. Works from the store alone, with or without a daemon."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.dispatches import id_argument
from cli.ids import resolve
from cli.output import string
from cli.short_ids import short
from peer.client.blocking import Document
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import Conflict, Forbidden, Gone, Internal, NotFound, Unavailable

CHUNK = 1 << 20


@click.command(cls=DispatchCommand, example="dispatch fetch 4e5f6a7b\ndispatch fetch 4e5f6a7b --to results --force")
@id_argument
@click.option("--to", "folder", metavar="DIR", type=click.Path(path_type=Path), help="The folder to create.")
@click.option(
    "--force", is_flag=True, help="Use the folder even if it exists; files in it are still never overwritten."
)
@pass_app
def fetch(app: App, dispatch_id: str, folder: Path | None, force: bool) -> None:
    """Save the files that a run returned to a new folder: `dispatch-ID`, unless --to names another one.

    Nothing is overwritten, no link is followed, and nothing is made executable.
    """
    document = app.read(lambda source: source.dispatch(resolve(source, dispatch_id)))
    files: list[Document] = (document.get("result") or document.get("held") or {}).get("files") or []
    if not files:
        raise NotFound(
            f"{short(document['dispatch_id'])} has returned no files (it is {document.get('status')})",
            fix=f"see `dispatch status {short(document['dispatch_id'])}`",
        )
    if document.get("removed") and all(file.get("removed") for file in files):
        raise Gone(
            f"the files of {short(document['dispatch_id'])} are no longer here: {document['removed']['message']}",
            fix=("" if document.get("direction") == "received" else "send it again to get new ones; ")
            + "to keep more from now on: `dispatch config set retention_mb MB`",
        )
    withheld = [file for file in files if file.get("withheld") or file.get("removed")]
    if len(withheld) == len(files):
        raise Gone(
            f"{string(document.get('peer'))} no longer gives out the files of {short(document['dispatch_id'])}",
            fix="ask them to send the files another way",
        )
    target = folder or Path(f"dispatch-{short(document['dispatch_id'])}")
    written = put(app.folder, [file for file in files if file not in withheld], target, force=force)
    if app.out.json:
        app.out.document({"dispatch_id": document["dispatch_id"], "folder": str(target.absolute()), "files": written})
    else:
        for file in written:
            app.out.line(f"{target / file['name']} ({file['size']} bytes)")
    for file in withheld:
        app.out.note(f"{file['name']} was not fetched: {string(document.get('peer'))} no longer gives it out")


def put(state: StateFolder, files: list[Document], target: Path, *, force: bool) -> list[Document]:
    """Copy the files' blobs into `target`, all of them or none; return [{name, size, sha256}].

    Raises Conflict (the folder or a file is there), Forbidden (a name that is no plain name), NotFound (not here yet).
    """
    for file in files:
        _plain(file["name"])
    sources = [(file, _blob(state, file)) for file in files]
    new = _make(target, force=force)
    made: list[str] = []
    try:
        folder = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise Conflict(f"{target} is a link, or not a folder", fix="choose another folder with --to DIR") from error
    try:
        for file, source in sources:
            _copy(source, folder, file, target, made)
    except BaseException:
        for name in made:
            os.unlink(name, dir_fd=folder)
        if new:
            target.rmdir()
        raise
    finally:
        os.close(folder)
    return [{"name": file["name"], "size": file["size"], "sha256": file["sha256"]} for file in files]


def _plain(name: object) -> None:
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or not name.isprintable():
        raise Forbidden(
            f"the returned file name {name!r} is not a plain name",
            fix="nothing was written; ask for it under another name",
        )


def _blob(state: StateFolder, file: Document) -> Path:
    digest = str(file.get("sha256"))
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise Internal(f"the digest of {file['name']!r} is not a SHA-256")
    path = state.blobs / digest[:2] / digest
    if not path.is_file():
        raise NotFound(f"{file['name']!r} has not arrived yet", fix="keep `dispatch-daemon` running and try again")
    return path


def _make(target: Path, *, force: bool) -> bool:
    """Make the folder; return whether it is new."""
    try:
        target.mkdir(parents=True)
        return True
    except FileExistsError:
        if force:
            return False
        raise Conflict(
            f"{target} already exists", fix="choose another folder with --to DIR, or add to it with --force"
        ) from None
    except OSError as error:
        raise Unavailable(
            f"can't create {target}: {error.strerror}", fix="choose another folder with --to DIR"
        ) from error


def _copy(source: Path, folder: int, file: Document, target: Path, made: list[str]) -> None:
    name = file["name"]
    try:
        output = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=folder)
    except FileExistsError:
        raise Conflict(f"{target / name} already exists", fix="choose another folder with --to DIR") from None
    except OSError as error:
        raise Unavailable(
            f"can't write {target / name}: {error.strerror}", fix="choose another folder with --to DIR"
        ) from error
    made.append(name)
    digest = hashlib.sha256()
    try:
        with source.open("rb") as reader, os.fdopen(output, "wb") as writer:
            while chunk := reader.read(CHUNK):
                digest.update(chunk)
                writer.write(chunk)
    except OSError as error:
        raise Unavailable(f"can't write {target / name}: {error.strerror}", fix="free some space") from error
    if digest.hexdigest() != file["sha256"]:
        raise Internal(f"{name!r} is not what was sent: its bytes changed in the store", fix="run `dispatch doctor`")
