"""`completion`, and the values that shells complete: ids and people. Completing neither fails nor prints anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from cli.app import App
from cli.base import DispatchCommand
from peer.client.blocking import Direction, Document

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

HELP = 50
"""Characters of the description beside a value."""
OFFERED = 100
"""Newest dispatches of each list that are offered."""


@click.command(
    cls=DispatchCommand,
    sign_in=False,
    example="dispatch completion bash > ~/.local/share/bash-completion/completions/dispatch\n"
    "dispatch completion zsh > ~/.zfunc/_dispatch\n"
    "dispatch completion fish > ~/.config/fish/completions/dispatch.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, ids and contacts in SHELL."""
    from click.shell_completion import get_completion_class

    app = ctx.find_object(App)
    kind = get_completion_class(shell)
    assert app is not None
    assert kind is not None
    script = kind(ctx.find_root().command, {}, "dispatch", "_DISPATCH_COMPLETE").source()
    if app.out.json:
        app.out.document({"shell": shell, "script": script})
    else:
        app.out.block(script, indent=0)


def dispatch_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the short ids of what was sent and received, each with person and task."""
    from click.shell_completion import CompletionItem

    from cli.short_ids import short
    from peer.dispatches.text import line

    rows = _ask(ctx, lambda app: _newest(app, "received")) + _ask(ctx, lambda app: _newest(app, "sent"))
    return [
        CompletionItem(short(row["dispatch_id"]), help=line(f"{row.get('peer')}: {row.get('task')}", limit=HELP))
        for row in rows
        if short(row["dispatch_id"]).startswith(incomplete)
    ]


def request_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the waiting tool calls: of the dispatch that stands before, or of all."""
    from click.shell_completion import CompletionItem

    from cli.short_ids import short_request
    from peer.dispatches.summary import summary
    from peer.dispatches.text import line

    wanted = str(ctx.params.get("dispatch_id") or "")
    rows = [row for row in _ask(ctx, lambda app: app.client.approvals()) if wanted in row["dispatch_id"]]
    ids = [str(row["request_id"]) for row in rows]
    named = {short_request(request, ids): row for request, row in zip(ids, rows, strict=True)}
    return [
        CompletionItem(request, help=line(summary(row), limit=HELP))
        for request, row in named.items()
        if request.startswith(incomplete)
    ]


def command_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the commands, or those below the ones that stand before."""
    from click.shell_completion import CompletionItem

    command: click.Command = ctx.find_root().command
    for word in ctx.params.get("words") or ():
        found = command.get_command(ctx, word) if isinstance(command, click.Group) else None
        if found is None:
            return []
        command = found
    if not isinstance(command, click.Group):
        return []
    return [CompletionItem(name) for name in command.list_commands(ctx) if name.startswith(incomplete)]


def recipients(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer those I may dispatch to."""
    return _people(ctx, incomplete, "outgoing")


def inviters(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer those who may dispatch to me."""
    return _people(ctx, incomplete, "incoming")


def everyone(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer all contacts."""
    return _people(ctx, incomplete, "outgoing", "incoming")


def _newest(app: App, direction: Direction) -> list[Document]:
    rows: list[Document] = app.read(lambda source: source.dispatches(direction, limit=OFFERED))["dispatches"]
    return rows


def _people(ctx: click.Context, incomplete: str, *directions: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    rows = _ask(ctx, lambda app: app.read(lambda source: source.contacts())["trust"])
    names = {
        str(row[key]) for row in rows if row.get("direction") in directions for key in ("peer", "alias") if row.get(key)
    }
    return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete) and name.isprintable()]


def _ask(ctx: click.Context, ask: Callable[[App], list[Document]]) -> list[Document]:
    """Return the rows of daemon or store; none after an error, since nothing may be printed into the person's line."""
    app = ctx.find_object(App) or App()
    app.out.json = True  # leaves notes out
    try:
        return ask(app)
    except Exception:
        return []
