"""`broker add|list|remove`: the brokers that are used, one of them first. `login` and `logout`: login.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.base import DispatchGroup, pass_app
from cli.login import sign_in_options, sign_in_there
from cli.output import interactive, string
from cli.prompts import confirm
from cli.values import lasting
from peer.client.blocking import DaemonUnreachable, Document
from peer.protocol.errors import Conflict

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

WAITING = {
    "answers": "your answers to invitations from {} have not reached it",
    "withdrawals": "your withdrawals of invitations to {} have not reached it",
    "sent": "your invitations to {} are open there: you will not get their answers",
    "received": "invitations from {} are open there: you cannot answer them any more",
}


@click.group(cls=DispatchGroup, example="dispatch broker list\ndispatch broker add https://broker.example")
def broker() -> None:
    """Add, list or remove brokers. Contacts find you through each broker that you share with them."""


def _known(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from peer.machine import settings
    from peer.machine.state_folder import StateFolder

    used = settings.load(StateFolder.locate()).sign_ins
    return [CompletionItem(each.url) for each in used if each.url.startswith(incomplete)]


@broker.command("add", sign_in=False, example="dispatch broker add https://broker.example")
@click.argument("url")
@sign_in_options
@pass_app
def add(app: App, url: str, email: str | None, no_browser: bool, label: str | None) -> None:
    """Sign in at one more broker, or again at one that you use.

    Your e-mail address and keys are the same at each. The first broker stays the first: invitations are posted there,
    unless `dispatch invite --broker` names another one.
    """
    signed = sign_in_there(app, url, email, no_browser=no_browser, label=label, beside=True)
    if app.out.json:
        app.out.document({"user_id": signed.user_id, "broker": signed.broker, "device_id": signed.device_id})


@broker.command("list", example="dispatch broker list --json")
@pass_app
def list_(app: App) -> None:
    """List the brokers that you use, your first one at the top.

    Shows for each whether you are signed in, and whether it answers and since when.
    """
    found: list[Document] = app.read(lambda source: source.whoami()).get("brokers") or []
    if app.out.json:
        app.out.document({"brokers": found})
        return
    app.out.table(
        ["broker", "e-mail", "signed in", "answers", "waiting"],
        [
            [
                f"{string(row.get('url'))}{' (first)' if row.get('first') else ''}",
                string(row.get("email")),
                "yes" if row.get("signed_in") else "no",
                _answers(row),
                string(row.get("waiting")),
            ]
            for row in found
        ],
        wraps="broker",
        empty="none: `dispatch broker add URL`",
    )
    for row in found:
        if error := row.get("error"):
            app.out.line(f"{string(row.get('url'))}: {string(error.get('message'))}", style="yellow")
            app.out.note(f"fix: {string(error.get('fix'))}")
        elif not row.get("signed_in"):
            app.out.note(f"to sign in at {string(row.get('url'))}: `dispatch login --broker {string(row.get('url'))}`")


def _answers(row: Document) -> str:
    if row.get("answers") is None:
        return "-"
    return f"{'' if row['answers'] else 'not '}{lasting(row.get('since'))}"


@broker.command("remove", example="dispatch broker remove https://broker.example")
@click.argument("url", shell_complete=_known)
@click.option("--yes", is_flag=True, help="Drop what waits for it without asking.")
@pass_app
def remove(app: App, url: str, yes: bool) -> None:
    """Stop using a broker.

    Signs you out there and removes your device's addresses. What is still waiting for the broker is shown first, and
    dropped only if you say so. Contacts stay; those that you know only from there are looked for at your first broker.
    """
    document = _remove(app, url, confirmed=yes)
    if document.get("status") == "confirmation_required":
        waiting = _waiting(document)
        if app.out.json or not interactive():
            raise Conflict("; ".join(waiting), fix="to drop that, run it again with --yes")
        for part in waiting:
            app.out.line(part)
        if not confirm("Remove it anyway?"):
            app.out.line("nothing was changed")
            return
        document = _remove(app, url, confirmed=True)
    if app.out.json:
        app.out.document(document)
        return
    app.out.line(f"removed {string(document.get('url'))}")
    if not document.get("broker_told"):
        app.out.warn("could not reach the broker: your device's addresses expire there within two hours")
    if document.get("first"):
        app.out.note(f"first broker: {string(document['first'])}")
    else:
        app.out.note("no broker is left; to add one: `dispatch broker add URL`")


def _remove(app: App, url: str, *, confirmed: bool) -> Document:
    try:
        return app.client.remove_broker(url, confirmed=confirmed)
    except DaemonUnreachable:
        app.require_sign_in()
        from peer.programs import offline_leaving

        return offline_leaving.leave(app.folder, url, confirmed=confirmed)


def _waiting(document: Document) -> list[str]:
    waiting: Document = document.get("waiting") or {}
    return [
        words.format(", ".join(string(each) for each in dict.fromkeys(waiting[kind])))
        for kind, words in WAITING.items()
        if waiting.get(kind)
    ]
