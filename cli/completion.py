"""What the shell is offered for ids and people. Must never fail or speak: a person is in the middle of a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from peer.client.blocking import Document

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from cli.app import App

HELP = 50
OFFERED = 100


def dispatch_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the short ids of both boxes, with who and what."""
    from click.shell_completion import CompletionItem

    from cli.ids import short
    from peer.dispatches.text import line

    rows = _ask(ctx, lambda app: _newest(app, "inbox")) + _ask(ctx, lambda app: _newest(app, "sent"))
    return [
        CompletionItem(short(row["dispatch_id"]), help=line(f"{row.get('peer')}: {row.get('task')}", limit=HELP))
        for row in rows
        if short(row["dispatch_id"]).startswith(incomplete)
    ]


def request_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the tool calls that wait, those of the dispatch named before if one is."""
    from click.shell_completion import CompletionItem

    from peer.dispatches.text import line

    wanted = str(ctx.params.get("dispatch_id") or "")
    return [
        CompletionItem(row["request_id"], help=line(str(row.get("tool")), limit=HELP))
        for row in _ask(ctx, lambda app: app.client.approvals())
        if row["request_id"].startswith(incomplete) and wanted in row["dispatch_id"]
    ]


def recipients(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer those I may dispatch to."""
    return _people(ctx, incomplete, "outgoing")


def inviters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer those who may dispatch to me."""
    return _people(ctx, incomplete, "incoming")


def everyone(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer all contacts."""
    return _people(ctx, incomplete, "outgoing", "incoming")


def _newest(app: App, box: str) -> list[Document]:
    rows: list[Document] = app.read(lambda source: source.dispatches(box, limit=OFFERED))["dispatches"]
    return rows


def _people(ctx: click.Context, incomplete: str, *directions: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    rows = _ask(ctx, lambda app: app.read(lambda source: source.contacts())["trust"])
    names = {
        str(row[key]) for row in rows if row.get("direction") in directions for key in ("peer", "alias") if row.get(key)
    }
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete) and name.isprintable()]


def _ask(ctx: click.Context, ask: Callable[[App], list[Document]]) -> list[Document]:
    """Return what the daemon or the store says, or nothing at all."""
    from cli.app import App

    app = ctx.find_object(App) or App()
    app.out.json = True  # no notes on the terminal
    try:
        return ask(app)
    except Exception:  # whatever it is, the shell's line is no place to say it
        return []
