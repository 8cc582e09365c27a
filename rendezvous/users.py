"""`dispatch-rendezvous user list|remove|release`: what an operator sees of accounts and does with them.

The broker may be running meanwhile: each command is one transaction in its database.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from peer.protocol import names
from peer.protocol.errors import Invalid
from rendezvous import program
from rendezvous.broker import wall_clock
from rendezvous.data_folder import existing_data_folder
from rendezvous.options import data_option, database_option
from rendezvous.storage.errors import NoSuchAccount
from rendezvous.storage.interface import Storage
from rendezvous.storage.opening import open_storage
from rendezvous.storage.rows import AccountSummary
from rendezvous.text import printable

Command = TypeVar("Command", bound=Callable[..., Any])
T = TypeVar("T")

MOST_LISTED = 500
CONTACTS_KEEP = "Trust edges are kept by people's own devices, and are ended there."


def _where(command: Command) -> Command:
    return data_option(database_option(command))


_yes = click.option("--yes", is_flag=True, help="Do not ask. Required where there is no terminal.")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def user() -> None:
    """List accounts, remove one, or release an address. The broker may be running meanwhile."""


@user.command("list", epilog="\b\nExample:\n  dispatch-rendezvous user list --data /srv/dispatch --limit 100")
@click.argument("email", required=False, default="")
@_where
@click.option("--after", metavar="EMAIL", default="", help="Begin after this address: the last of the page before.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, MOST_LISTED), help="How many at most.")
@_json
def list_users(*, email: str, data: Path, database: str, after: str, limit: int, as_json: bool) -> None:
    """List accounts in the order of their addresses, or show the one of EMAIL with its devices."""

    async def look(storage: Storage) -> tuple[Sequence[AccountSummary], bool]:
        if not email:
            # One more than is shown, which says whether there are more.
            found = await storage.accounts(after=after.lower(), most=limit + 1, now=wall_clock())
            return found[:limit], len(found) > limit
        named = names.user_id(email)
        one = await storage.account(named, wall_clock())
        if one is None:
            raise NoSuchAccount(named)
        return [one], False

    with program.refusals_told("dispatch-rendezvous"):
        shown, more = _run(data, database, look)
    following = shown[-1].user_id if more else None
    if as_json:
        click.echo(json.dumps({"users": [_document(each) for each in shown], "next": following}))
        return
    if not shown:
        click.echo(f"no accounts{' after ' + printable(after) if after else ' yet'}")
    for each in shown:
        click.echo(_line(each))
        if email:
            for device, until in each.devices.items():
                click.echo(f"  device {device}, {_presence(until)}")
    if following:
        click.echo(f"more: --after {printable(following)}", err=True)


@user.command(epilog="\b\nExample:\n  dispatch-rendezvous user remove alice@example.org --data /srv/dispatch")
@click.argument("email")
@_where
@_yes
@_json
def remove(*, email: str, data: Path, database: str, yes: bool, as_json: bool) -> None:
    """Delete the account of EMAIL: its devices, presence, and every invitation from and to it.

    Its devices are signed out. Whoever proves the address next, with any key, has a new account. Trust edges are kept
    by people's own devices, and are ended there.
    """
    with program.refusals_told("dispatch-rendezvous"):
        named = names.user_id(email)
        known = _run(data, database, lambda storage: storage.account(named, wall_clock()))
        what = "it has no account" if known is None else f"{_devices(known)}, {known.kept_bytes:,} bytes kept"
        _confirm(f"{printable(named)}: {what}. Delete this, and every invitation from and to it?", yes)
        removed = _run(data, database, lambda storage: storage.remove_account(named))
        if not (removed.account or removed.invitations_sent or removed.invitations_received):
            raise NoSuchAccount(named)
    if as_json:
        counted = {
            "devices": removed.devices,
            "invitations_sent": removed.invitations_sent,
            "invitations_received": removed.invitations_received,
        }
        click.echo(json.dumps({"user_id": named, "account": removed.account, **counted}))
        return
    account = f"the account, {_number(removed.devices, 'device')}, " if removed.account else ""
    sent = _number(removed.invitations_sent, "invitation")
    click.echo(f"deleted: {account}{sent} from it and {removed.invitations_received} to it. {CONTACTS_KEEP}")


@user.command(epilog="\b\nExample:\n  dispatch-rendezvous user release alice@example.org --data /srv/dispatch")
@click.argument("email")
@_where
@_yes
@_json
def release(*, email: str, data: Path, database: str, yes: bool, as_json: bool) -> None:
    """Let EMAIL be claimed by a new root key: for somebody who lost every device.

    Its devices are signed out, its presence ends, and its open invitations are withdrawn; those to it stay open.
    Whoever then proves the address by mail owns it here. Contacts keep the key that they know, and refuse the new one.

    First make sure, in another way than by mail, that it is the person themselves who asks.
    """
    with program.refusals_told("dispatch-rendezvous"):
        named = names.user_id(email)
        known = _run(data, database, lambda storage: storage.account(named, wall_clock()))
        if known is None:
            raise NoSuchAccount(named)
        present = any(until is not None for until in known.devices.values())
        warning = (
            " One was announced in the last two hours: it may still be in use, or in somebody else's hands."
            if present
            else ""
        )
        _confirm(
            f"{printable(named)}: {_devices(known)}.{warning} Sign them out, and let whoever proves the address next "
            "own it?",
            yes,
        )
        withdrawn = _run(data, database, lambda storage: storage.release_address(named, wall_clock()))
    if as_json:
        click.echo(json.dumps({"user_id": named, "devices": len(known.devices), "withdrawn": list(withdrawn)}))
        return
    click.echo(
        f"released: {_number(len(known.devices), 'device')} signed out, "
        f"{_number(len(withdrawn), 'open invitation')} withdrawn. The next sign-in that is proven by mail owns the "
        "address. Contacts refuse the new key, since they know the old one, until they run `dispatch trust forget-key`."
    )


def _run(data: Path, database: str, work: Callable[[Storage], Awaitable[T]]) -> T:
    folder = data if database else existing_data_folder(data)

    async def run() -> T:
        async with open_storage(database, folder, beside=True) as storage:
            return await work(storage)

    return trio.run(run)


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Invalid("this asks before it does anything, and there is no terminal", fix="add --yes")
    click.confirm(question, abort=True)


def _document(account: AccountSummary) -> dict[str, object]:
    return {
        "user_id": account.user_id,
        "since": _time(account.created),
        "devices": [
            {"device": device, "announced_until": None if until is None else _time(until)}
            for device, until in account.devices.items()
        ],
        "kept_bytes": account.kept_bytes,
    }


def _line(account: AccountSummary) -> str:
    until = max((until for until in account.devices.values() if until is not None), default=None)
    since = datetime.fromtimestamp(account.created / 1000, UTC)
    return (
        f"{printable(account.user_id)}  {_devices(account)}, {_presence(until)}; {account.kept_bytes:,} bytes; "
        f"since {since:%Y-%m-%d}"
    )


def _presence(until: int | None) -> str:
    return "offline" if until is None else f"announced until {datetime.fromtimestamp(until / 1000, UTC):%H:%M} UTC"


def _devices(account: AccountSummary) -> str:
    return _number(len(account.devices), "device")


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
