"""`dispatch-rendezvous backup` and `restore`: a broker's data folder copied whole, while it runs, and put back.

A backup is itself a data folder: the database, and beside it the secrets that are kept there.
"""

from __future__ import annotations

import json
import os
import shlex
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import click

from peer.protocol.errors import Conflict, Invalid, Unavailable
from rendezvous import program
from rendezvous.data_folder import LOCK, DataFolder, existing_data_folder
from rendezvous.options import data_option, database_option
from rendezvous.private_files import make_private, sync_folder
from rendezvous.relay_tokens import KEY_FILE
from rendezvous.storage.opening import DATABASE, copy_file, database_file
from rendezvous.tokens import FALLBACK_FILE, SECRET_FILE

SECRETS = {SECRET_FILE: "DISPATCH_JWT_SECRET", KEY_FILE: "DISPATCH_RELAY_KEY", FALLBACK_FILE: ""}
"""Files of the data folder, and the variable in whose place each is."""
_MAX_SECRET = 4096


@click.command(epilog="\b\nExample:\n  dispatch-rendezvous backup /srv/backup/$(date +%F) --data /srv/dispatch")
@click.argument("target", metavar="FOLDER", type=click.Path(path_type=Path))
@data_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON: {folder, files: {name: bytes}, not_in_it}.")
def backup(*, target: Path, data: Path, database: str, as_json: bool) -> None:
    """Copy the broker's database and secrets into FOLDER, which is made. The broker may be running.

    The copy is of one moment, checked, and on disk when this ends; it is private, since whoever has it can act as the
    broker. `restore` puts it back. A PostgreSQL database is not copied: it says how.
    """
    with program.refusals_told("dispatch-rendezvous"):
        source = existing_data_folder(data)
        if not database:
            database_file(source)
        files = copy_data(source, target, with_database=not database)
        absent = [name for name, variable in SECRETS.items() if variable and name not in files]
    if as_json:
        click.echo(
            json.dumps({"folder": str(target), "files": files, "not_in_it": absent + [DATABASE] * bool(database)})
        )
        return
    click.echo(
        f"copied to {target}: {', '.join(f'{name} ({size:,} bytes)' for name, size in files.items()) or 'nothing'}"
    )
    for name in absent:
        click.echo(f"not in it: {name}; if you set ${SECRETS[name]} instead, keep that too")
    if database:
        click.echo(f"not in it: the database. Copy it with: {dump_command(database, target)}")


@click.command(epilog="\b\nExample:\n  dispatch-rendezvous restore /srv/backup/2026-05-01 --data /srv/dispatch")
@click.argument("source", metavar="FOLDER", type=click.Path(path_type=Path))
@data_option
def restore(*, source: Path, data: Path) -> None:
    """Put a backup into the data folder, which must be empty or not there; checked, as it is copied.

    Run it as the broker's user. Then `serve` with that folder, and with the same public address as before.
    """
    with program.refusals_told("dispatch-rendezvous"):
        if not source.is_dir() or not any((source / name).is_file() for name in (DATABASE, *SECRETS)):
            raise Invalid(f"{source} is not a backup", fix="name a folder that `dispatch-rendezvous backup` made")
        target = data.expanduser()
        files = copy_data(source, target, with_database=(source / DATABASE).is_file())
    click.echo(f"restored to {target}: {', '.join(files)}")
    if DATABASE not in files:
        click.echo("there is no database in it: restore that of PostgreSQL with pg_restore")


def copy_data(source: Path, target: Path, *, with_database: bool) -> dict[str, int]:
    """Copy database and secrets of one folder into another, which is made, or empty; return the bytes by name.

    The database comes last: a folder that has it is whole. What was made is removed again where it fails. Raises
    Conflict for a folder with anything in it, Unavailable, and as DataFolder.
    """
    made = not target.exists()
    with DataFolder(target):  # locked, so that all that comes into it is from here
        if {path.name for path in target.iterdir()} != {LOCK}:
            raise Conflict(
                f"{target} is not empty", fix="name a folder that does not exist yet; nothing is ever overwritten"
            )
        try:
            return _copied(source, target, with_database=with_database)
        except BaseException as error:
            for each in target.iterdir():
                each.unlink()
            if made:
                target.rmdir()
            if isinstance(error, OSError):
                raise Unavailable(
                    f"can't copy {source} to {target}: {error.strerror}", fix="look at the disks of both, and try again"
                ) from error
            raise


def _copied(source: Path, target: Path, *, with_database: bool) -> dict[str, int]:
    files: dict[str, int] = {}
    for name in SECRETS:
        with suppress(FileNotFoundError):
            content = _secret(source / name)
            make_private(target / name, content)
            files[name] = len(content)
    if with_database:
        partial = target / f".{DATABASE}.partial"
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        copy_file(source / DATABASE, partial)
        files[DATABASE] = partial.stat().st_size
        partial.rename(target / DATABASE)
    sync_folder(target)
    sync_folder(target.absolute().parent)
    return files


def dump_command(database: str, target: Path) -> str:
    """Return the command that copies a PostgreSQL database into the folder, without a password."""
    parts = urlsplit(database)
    user, at, where = parts.netloc.rpartition("@")
    query = urlencode([pair for pair in parse_qsl(parts.query) if "password" not in pair[0].lower()], safe="/")
    # Not urlunsplit, which drops the slashes of an address without a host.
    plain = f"{parts.scheme}://{user.partition(':')[0]}{at}{where}{parts.path}{'?' * bool(query)}{query}"
    return shlex.join(["pg_dump", "--format=custom", f"--file={target / 'rendezvous.dump'}", f"--dbname={plain}"])


def _secret(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        return file.read(_MAX_SECRET)
