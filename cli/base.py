"""The base classes of commands: `--json` before or after, examples, lazy loading. No command is defined here.

Imports nothing that takes long (rich, msgspec, sqlite3, the node): see tests/cli/test_start.py.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from cli.app import App
from cli.help_formatter import HelpContext, HelpFormatter

pass_app = click.make_pass_decorator(App)

limit_option = click.option("--limit", type=click.IntRange(1, 1000), help="How many to show at most; all by default.")

raw_option = click.option(
    "--raw", is_flag=True, help="Show replies as they were written, without rendering their Markdown."
)

BYTE_ORDER_MARK = "\ufeff"


class DispatchCommand(click.Command):
    """A command with `--json`, `--broker` and `--token`, and examples in its help.

    The last two name the sign-in that is meant (cli.app). A command with `sign_in=False` uses none and refuses them.
    """

    context_class = HelpContext

    # Any: what click's decorators pass to a command class.
    def __init__(self, *args: Any, example: str = "", sign_in: bool = True, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.example = example
        self.sign_in = True
        self.params += shared_options()
        if not sign_in:
            self.use_no_sign_in()

    def use_no_sign_in(self) -> None:
        """Refuse --broker and --token, and leave them out of the help."""
        self.sign_in = False
        for param in self.params:
            if isinstance(param, click.Option) and param.name in ("broker_flag", "token_flag"):
                param.hidden = True

    # Any: what click returns is what the command returns.
    def invoke(self, ctx: click.Context) -> Any:
        app = ctx.find_object(App)
        if not self.sign_in and app is not None and (app.broker is not None or app.token is not None):
            raise click.UsageError("this command uses no sign-in: leave out --broker and --token", ctx)
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        assert isinstance(formatter, HelpFormatter)
        formatter.write_example(self.example)


class UnknownCommand(click.UsageError):
    """A command that there is not; `meant` is the one that probably was, or ""."""

    def __init__(self, message: str, ctx: click.Context, meant: str) -> None:
        super().__init__(message, ctx)
        self.meant = meant


class DispatchGroup(DispatchCommand, click.Group):
    """A group of such commands, which suggests the nearest name for an unknown one.

    `meant`: other words for its commands, to be suggested as well.
    """

    command_class = DispatchCommand

    # Any: as above.
    def __init__(self, *args: Any, meant: Mapping[str, str] | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.meant = meant or {}

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        if not self.sign_in and isinstance(cmd, DispatchCommand):
            cmd.use_no_sign_in()
        super().add_command(cmd, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            meant = self.meant.get(args[0].lower())
            near = [meant] if meant else difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            raise UnknownCommand(f"there is no command {args[0]!r}", ctx, near[0] if near else "") from error


class Entry(NamedTuple):
    """Where a command is defined, and its summary, so that `--help` need not import it."""

    module: str
    attribute: str
    summary: str


class LazyGroup(DispatchGroup):
    """A group whose commands are imported when they are called; its help is made from `sections` alone."""

    # Any: as above.
    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, Entry]], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.sections = sections
        self.entries = {name: entry for section in sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.entries))
        for title, entries in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.summary) for name, entry in entries.items()])


def shared_options() -> list[click.Parameter]:
    """Return the options that may stand before or after a command."""

    def store(ctx: click.Context, param: click.Parameter, value: object) -> None:
        app = ctx.find_object(App)
        if app is None:  # shell completion resolves commands without running the group
            return
        if param.name == "json" and value:
            app.out.json = True
        elif param.name == "broker_flag" and isinstance(value, str):
            app.broker = value
        elif param.name == "token_flag" and isinstance(value, str):
            app.token = from_stdin(value, secret=True)

    return [
        click.Option(
            ["--broker", "broker_flag"],
            metavar="URL",
            expose_value=False,
            callback=store,
            help="The broker to use instead of $DISPATCH_BROKER or the saved one.",
        ),
        click.Option(
            ["--token", "token_flag"],
            metavar="TOKEN",
            expose_value=False,
            callback=store,
            help="The token to use instead of $DISPATCH_TOKEN or the saved one; - reads it from standard input.",
        ),
        click.Option(
            ["--json"], is_flag=True, expose_value=False, is_eager=True, callback=store, help="Print one JSON document."
        ),
    ]


MAX_STDIN = 4 * 1024 * 1024
"""Bytes: more than any text that is read there may have. Its own limit says by how much it is too long."""


def from_stdin(value: str, *, one_line: bool = False, verbatim: bool = False, secret: bool = False) -> str:
    """Return `value`, or for `-` the text of standard input without its byte order mark. Raises UsageError.

    The line end is left out unless `verbatim`. With `one_line` the first line is enough: whoever pastes it at a
    terminal need not end the input. A terminal does not show what is typed there for a `secret`, which is one line too.
    """
    if value != "-":
        return value
    if secret and sys.stdin.isatty():
        try:
            typed = getpass.getpass("paste it and press Enter (it is not shown): ")
        except EOFError:  # Ctrl-D
            typed = ""
        if not typed:
            raise click.UsageError("nothing was typed")
        return typed
    if sys.stdin.isatty() and (app := _app()) is not None:
        app.out.note(
            "paste it and press Enter" if one_line else "type or paste it, then press Ctrl-D on a line of its own"
        )
    try:
        raw = sys.stdin.buffer.readline(MAX_STDIN + 1) if one_line else sys.stdin.buffer.read(MAX_STDIN + 1)
        if len(raw) > MAX_STDIN:
            raise click.UsageError(f"standard input has more than {MAX_STDIN} bytes")
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise click.UsageError("standard input is not UTF-8 text") from None
    text = without_mark(text)
    if not verbatim:
        text = text.rstrip("\r\n")
    if not text:
        raise click.UsageError("- reads standard input, but it was empty")
    return text


def _app() -> App | None:
    context = click.get_current_context(silent=True)
    return None if context is None else context.find_object(App)


def without_mark(text: str) -> str:
    """Return `text` without the byte order mark (U+FEFF) that some editors and shells begin a text with, and say so."""
    if not text.startswith(BYTE_ORDER_MARK):
        return text
    if (app := _app()) is not None:
        app.out.warn("removed the byte order mark at the beginning of the text")
    return text.lstrip(BYTE_ORDER_MARK)
