"""`dispatch-rendezvous rotate-secret`: replaces the secret of sign-in tokens that is kept in the data folder.

For as long as both are there, tokens that the one before signed are taken too, and renewed when they are used
(tokens.py). A secret from the environment is rotated there: docs/broker.md.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from peer.protocol.errors import Conflict, Invalid, Unavailable
from rendezvous import program
from rendezvous.data_folder import existing_data_folder
from rendezvous.options import data_option
from rendezvous.private_files import make_private, new_secret, sync_folder
from rendezvous.tokens import FALLBACK_FILE, LIFE_SECONDS, SECRET_FILE, load_secrets

RESTART = "restart the broker for this to take effect"
END = "dispatch-rendezvous rotate-secret --end"
DAYS = LIFE_SECONDS // 86_400


def begin(folder: Path) -> None:
    """Make a new secret; the one until now becomes the fallback. Raises Conflict while there is one, OSError."""
    secret, fallback = folder / SECRET_FILE, folder / FALLBACK_FILE
    load_secrets(folder, {})  # refuses files that others can read or that are damaged
    try:
        os.link(secret, fallback)
    except FileExistsError:
        if fallback.read_bytes() != secret.read_bytes():  # the same: it was stopped here the last time
            raise Conflict(
                f"a rotation is under way since {began(folder)}: the old secret is still accepted",
                fix=f"end that first, {DAYS} days after it began or at once: `{END}`",
            ) from None
    make_private(secret, new_secret(), replacing=True)


def end(folder: Path) -> str:
    """Remove the fallback; return the day on which the rotation began. Raises Conflict if there is none, OSError."""
    day = began(folder)
    try:
        (folder / FALLBACK_FILE).unlink()
    except FileNotFoundError:
        raise Conflict(
            "no rotation is under way: one secret is accepted", fix="`dispatch-rendezvous rotate-secret` begins one"
        ) from None
    sync_folder(folder)
    return day


def replace_at_once(folder: Path) -> None:
    """Make a new secret and accept no other. Raises OSError."""
    with suppress(FileNotFoundError):
        (folder / FALLBACK_FILE).unlink()
    make_private(folder / SECRET_FILE, new_secret(), replacing=True)


def began(folder: Path) -> str:
    """Return the day on which the current secret was made. Raises OSError."""
    return f"{datetime.fromtimestamp((folder / SECRET_FILE).stat().st_mtime, UTC):%Y-%m-%d}"


@click.command(
    "rotate-secret",
    epilog="\b\nExample:\n  dispatch-rendezvous rotate-secret --data /srv/dispatch   # restart the broker",
)
@data_option
@click.option("--end", "ending", is_flag=True, help="End a rotation: tokens that the old secret signed are refused.")
@click.option("--at-once", is_flag=True, help="The secret has leaked: accept no other. Everybody has to sign in again.")
def rotate_secret(*, data: Path, ending: bool, at_once: bool) -> None:
    """Replace the secret of sign-in tokens without anybody having to sign in again.

    It makes a new secret, and keeps the one until now beside it: restart the broker, and tokens by either are accepted,
    while devices that are online get new ones. After 30 days end it with --end, and restart the broker once more.

    This is for a secret in the data folder; $DISPATCH_JWT_SECRET is changed where you set it.
    """
    with program.refusals_told("dispatch-rendezvous"):
        if ending and at_once:
            raise Invalid("--end and --at-once contradict each other", fix="give one of them")
        if os.environ.get("DISPATCH_JWT_SECRET"):
            raise Invalid(
                "the secret is $DISPATCH_JWT_SECRET, not one in the data folder",
                fix="set $DISPATCH_JWT_SECRET_FALLBACK to its value, and $DISPATCH_JWT_SECRET to a new one: "
                "`openssl rand -hex 32`",
            )
        folder = existing_data_folder(data)
        try:
            if at_once:
                replace_at_once(folder)
                click.echo(f"replaced: everybody has to sign in again; {RESTART}")
            elif ending:
                day = end(folder)
                click.echo(f"ended: devices that were not online since {day} have to sign in again; {RESTART}")
            else:
                begin(folder)
                click.echo(
                    f"there is a new secret, and the old one is accepted as well; {RESTART}; in {DAYS} days: `{END}`"
                )
        except OSError as error:
            raise Unavailable(
                f"can't replace the secret in {folder}: {error.strerror}", fix="repair or free the disk"
            ) from error
