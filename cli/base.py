"""What every command shares: the state of one invocation, `--json` on either side, lazy loading. No command lives here.

Nothing here may import what takes long (rich, msgspec, sqlite3, the node): see tests/cli/test_start.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol, TypeVar

import click

from cli.output import Output
from peer.client import Client, DaemonUnreachable, Document
from peer.protocol.errors import DispatchError, Invalid, NotSignedIn
from peer.state_folder import StateFolder

T = TypeVar("T")


class Source(Protocol):
    """What both the daemon (peer.client.Client) and the store on disk (peer.store.reader) can tell."""

    def whoami(self) -> Document: ...

    def contacts(self) -> Document: ...

    def dispatches(
        self, box: str, *, status: str | None = None, limit: int | None = None, before: str | None = None
    ) -> Document: ...

    def dispatch(self, dispatch_id: str) -> Document: ...


class App:
    """One invocation: its flags, its output, and the doors to the daemon and to the store."""

    def __init__(self, *, json: bool = False, broker: str | None = None, token: str | None = None) -> None:
        self.out = Output(json=json)
        self.broker = broker
        self.token = token
        self._folder: StateFolder | None = None

    @property
    def folder(self) -> StateFolder:
        if self._folder is None:
            self._folder = StateFolder.locate()
        return self._folder

    def use_folder(self, folder: StateFolder) -> None:
        """Work with another state folder than the one the environment names (the demo's people)."""
        self._folder = folder

    @property
    def client(self) -> Client:
        return Client(self.folder)

    def read(self, ask: Callable[[Source], T]) -> T:
        """Ask the daemon, or the store when no daemon runs. Raises NotSignedIn on a machine that was never set up."""
        try:
            return ask(self.client)
        except DaemonUnreachable:
            self.require_sign_in()
            from peer.store.reader import open_reader

            self.out.note("the daemon is not running: this is what the store holds (start it: `dispatch-daemon`)")
            with open_reader(self.folder) as reader:
                return ask(reader)

    def ask(self, ask: Callable[[Client], T], *, signed_in: bool = False) -> T:
        """Ask the daemon. With `signed_in`, somebody who never signed in hears that before they hear of the daemon."""
        try:
            if signed_in:
                self._refuse_other_sign_in()
            return ask(self.client)
        except DaemonUnreachable:
            if signed_in:
                self.require_sign_in()
            raise

    def require_sign_in(self) -> None:
        """Raise NotSignedIn unless a flag, a variable, config.json or an earlier life left a sign-in."""
        from peer import settings

        resolved = settings.resolve(self.folder, broker=self.broker, token=self.token)
        if not resolved.token and not self.folder.store.exists():
            resolved.require_token()
        if not resolved.token and resolved.broker and (self.broker or not settings.load(self.folder).broker):
            resolved.require_token()

    def _refuse_other_sign_in(self) -> None:
        """A running daemon has its own sign-in: flags that say another one would silently do nothing."""
        if self.broker is None and self.token is None:
            return
        from peer import settings

        given = settings.resolve(self.folder, broker=self.broker, token=self.token)
        own = self.client.whoami().get("broker") or ""
        if own != given.broker:
            raise Invalid(
                f"the running daemon uses {own or 'no broker'}, not {given.broker or 'none'}",
                fix=f"sign in there: `dispatch login --broker {given.broker or 'URL'}`",
            )
        if self.token is not None and self.token != settings.resolve(self.folder).token:
            raise Invalid(
                "the running daemon uses its own saved sign-in, not the token given here",
                fix="leave --token out, or `dispatch config set token -` and restart `dispatch-daemon`",
            )


pass_app = click.make_pass_decorator(App)


class DispatchCommand(click.Command):
    """A command with `--json`, an example in its help, and, when it needs the broker, `--broker` and `--token`."""

    def __init__(self, *args: Any, example: str = "", broker: bool = False, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.example = example
        self.params += shared_options(broker=broker)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_example(self.example, formatter)


class DispatchGroup(click.Group):
    """A group of DispatchCommands which takes `--json` too."""

    command_class = DispatchCommand

    def __init__(self, *args: Any, example: str = "", broker: bool = False, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.example = example
        self.params += shared_options(broker=broker)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_example(self.example, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            if near:
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None
            raise


class Entry(NamedTuple):
    """Where a command lives and what it does in a few words, so that `--help` need not load it."""

    module: str
    attribute: str
    summary: str


class LazyGroup(DispatchGroup):
    """A group whose commands are loaded when they are called; its help is written from `sections` alone."""

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


def shared_options(*, broker: bool) -> list[click.Parameter]:
    """Return the options that are taken on either side of a command."""

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        app = ctx.find_object(App)
        if app is None:  # shell completion resolves commands without running the group
            return
        if param.name == "json" and value:
            app.out.json = True
        elif param.name == "broker_flag" and value is not None:
            app.broker = value
        elif param.name == "token_flag" and value is not None:
            app.token = from_stdin(value)

    json = click.Option(
        ["--json"], is_flag=True, expose_value=False, is_eager=True, callback=keep, help="Print one JSON document."
    )
    if not broker:
        return [json]
    return [
        click.Option(
            ["--broker", "broker_flag"],
            metavar="URL",
            expose_value=False,
            callback=keep,
            help="The broker, in place of $DISPATCH_BROKER and the saved one.",
        ),
        click.Option(
            ["--token", "token_flag"],
            metavar="TOKEN",
            expose_value=False,
            callback=keep,
            help="The sign-in, in place of $DISPATCH_TOKEN and the saved one; - reads it from standard input.",
        ),
        json,
    ]


def from_stdin(value: str) -> str:
    """Return `value`, or for `-` what comes on standard input without the line end. Raises UsageError."""
    if value != "-":
        return value
    try:
        text = sys.stdin.buffer.read().decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.UsageError("what came on standard input is not text in UTF-8") from None
    if not text:
        raise click.UsageError("- means standard input, and nothing came there")
    return text


def write_example(example: str, formatter: click.HelpFormatter) -> None:
    """Write the examples of a command, one a line."""
    if not example:
        return
    with formatter.section("Example" if "\n" not in example else "Examples"):
        for line in example.splitlines():
            formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def not_signed_in(error: DispatchError) -> bool:
    """Whether the error says that there is no sign-in at all."""
    return isinstance(error, NotSignedIn)
