"""`help` and `version`: what `--help` and `--version` say, for those who type them as commands."""

from __future__ import annotations

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.commands import dispatch, show_version
from cli.completion import command_names


@click.command("help", cls=DispatchCommand, sign_in=False, example="dispatch help\ndispatch help trust edit")
@click.argument("words", nargs=-1, metavar="[COMMAND]…", shell_complete=command_names)
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Explain COMMAND; without one, list the commands."""
    assert ctx.parent is not None
    about = ctx.parent
    command: click.Command = dispatch
    for word in words:
        if not isinstance(command, click.Group):
            raise click.UsageError(f"{about.command_path!r} has no subcommands", about)
        name, found, _ = command.resolve_command(about, [word])
        assert found is not None
        command, about = found, found.context_class(found, info_name=name, parent=about)
    click.echo(command.get_help(about))


@click.command(cls=DispatchCommand, sign_in=False, example="dispatch version\ndispatch version --json")
@pass_app
def version(app: App) -> None:
    """Show the version."""
    show_version(app)
