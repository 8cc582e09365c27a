"""`man`: a manual page for each command, in roff, from the same definitions as its help.

The form is that of man(7), in ASCII: groff takes other characters by their numbers. What is written here is text, so
backslashes, and a dot or an apostrophe at the beginning of a line, are escaped.
"""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from cli.app import App
from cli.base import DispatchCommand, pass_app
from cli.commands import SECTIONS, dispatch
from cli.completion import command_names
from peer import VERSION
from peer.protocol.errors import Unavailable

SECTION = "1"
SYNOPSIS_OF_ALL = "dispatch [--json] COMMAND …"
EXITS = "0 done, 1 refused or failed, 2 wrong usage, 130 ended by Ctrl-C."


def pages() -> Iterator[tuple[str, str]]:
    """Yield every page as its file's name and its content: of dispatch, and of each command and what is below it."""
    yield f"dispatch.{SECTION}", _page_of_all()
    for path, command in _every(dispatch, ()):
        yield f"{_name(path)}.{SECTION}", _page(path, command)


def page(words: Iterable[str]) -> str:
    """Return the page of one command; of none, that of dispatch. Raises UsageError."""
    path: tuple[str, ...] = ()
    command: click.Command = dispatch
    for word in words:
        context = click.Context(command, info_name=" ".join(("dispatch", *path)))
        if not isinstance(command, click.Group):
            raise click.UsageError(f"{context.info_name!r} has no subcommands")
        name, found, _ = command.resolve_command(context, [word])
        assert found is not None and name is not None
        path, command = (*path, name), found
    return _page(path, command) if path else _page_of_all()


def write_pages(folder: Path) -> list[Path]:
    """Write every page into the folder, which is made; return the files. Raises Unavailable."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in pages():
            (folder / name).write_text(content, "utf-8")
            written.append(folder / name)
    except OSError as error:
        raise Unavailable(
            f"can't write to {folder}: {error.strerror}", fix="choose another folder with --to"
        ) from error
    return written


@click.command(
    cls=DispatchCommand,
    sign_in=False,
    example="dispatch man\ndispatch man trust edit\ndispatch man --to ~/.local/share/man/man1",
)
@click.argument("words", nargs=-1, metavar="[COMMAND]…", shell_complete=command_names)
@click.option(
    "--to",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write the manual pages of all commands to this folder.",
)
@pass_app
def man(app: App, words: tuple[str, ...], to: Path | None) -> int:
    """Show the manual page of COMMAND, or of dispatch itself. In a pipe, print it in roff.

    After `dispatch man --to ~/.local/share/man/man1`, `man dispatch-send` works too. Any other `man1` folder will do,
    if `manpath` lists the folder above it.
    """
    if to is not None:
        if words:
            raise click.UsageError("--to writes the pages of all commands: leave out COMMAND")
        written = write_pages(to.expanduser())
        if app.out.json:
            app.out.document({"written": [str(path.absolute()) for path in written]})
        else:
            where = f"wrote {len(written)} pages to {to}"
            app.out.line(f"{where}; read one with `man dispatch` or `man dispatch-send`", paths=True)
        return 0
    content = page(words)
    if app.out.json:
        app.out.document({"page": content})
        return 0
    if not sys.stdout.isatty() or (viewer := shutil.which("man")) is None:
        app.out.block(content.rstrip("\n"), indent=0)
        return 0
    return subprocess.run([viewer, "-l", "-"], input=content.encode(), check=False).returncode


def _every(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group, info_name="dispatch")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _every(command, (*path, name))


def _page_of_all() -> str:
    body = [*_heading((), "send tasks to the agents of people who trust you"), ".SH SYNOPSIS", _text(SYNOPSIS_OF_ALL)]
    body += [".SH DESCRIPTION", *_paragraphs(dispatch.help or "")]
    for title, entries in SECTIONS.items():
        body.append(f".SH {_text(title.upper())}")
        for name, entry in entries.items():
            body += [".TP", f".BR dispatch\\-{_text(name)} ({SECTION})", _text(entry.summary)]
    body += [".SH OPTIONS", *_options(dispatch)]
    return _finished([*body, *_examples(dispatch), ".SH EXIT STATUS", _text(EXITS)])


def _page(path: tuple[str, ...], command: click.Command) -> str:
    words = " ".join(("dispatch", *path))
    usage = " ".join([words, *command.collect_usage_pieces(click.Context(command, info_name=words))])
    body = [*_heading(path, command.get_short_help_str(limit=200).rstrip(".")), ".SH SYNOPSIS", ".B " + _text(usage)]
    body += [".SH DESCRIPTION", *_paragraphs(command.help or "")]
    if isinstance(command, click.Group):
        body.append(".SH COMMANDS")
        context = click.Context(command, info_name=words)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            body += [".TP", f".BR {_text(_name((*path, name)))} ({SECTION})", _text(inner.get_short_help_str(200))]
    body += [".SH OPTIONS", *_options(command), *_examples(command), ".SH EXIT STATUS", _text(EXITS)]
    parents = [_name(path[:length]) for length in range(len(path))]
    also = ", ".join(f"{_text(name)}({SECTION})" for name in parents)
    return _finished([*body, ".SH SEE ALSO", also])


def _heading(path: tuple[str, ...], summary: str) -> list[str]:
    name = _name(path)
    return [
        f'.TH "{_text(name.upper())}" "{SECTION}" "" "dispatch {_text(VERSION)}" "dispatch"',
        ".SH NAME",
        f"{_text(name)} \\- {_text(summary)}",
    ]


def _paragraphs(help_text: str) -> list[str]:
    found = [" ".join(part.split()) for part in inspect.cleandoc(help_text).split("\n\n")]
    return [line for part in found if part for line in (".PP", _text(part))]


def _options(command: click.Command) -> list[str]:
    lines = []
    for option in command.params:
        if isinstance(option, click.Option) and option.help and not option.hidden:
            names = ", ".join([*option.opts, *option.secondary_opts])
            value = "" if option.is_flag or option.metavar is None else f" {option.metavar}"
            lines += [".TP", f".B {_text(names + value)}", _text(option.help)]
    return [*lines, ".TP", ".B " + _text("-h, --help"), "Show the help and exit."]


def _examples(command: click.Command) -> list[str]:
    examples = getattr(command, "example", "")
    return [".SH EXAMPLES", ".nf", *map(_text, examples.splitlines()), ".fi"] if examples else []


def _name(path: tuple[str, ...]) -> str:
    return "-".join(("dispatch", *path))


def _text(words: str) -> str:
    """Return a line of text for groff: no request, dashes that can be copied, commands in bold."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace('"', "\\(dq")
    escaped = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped)
    escaped = re.sub(r"[^\x00-\x7f]", lambda match: f"\\[u{ord(match[0]):04X}]", escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _finished(lines: list[str]) -> str:
    return "\n".join(['.\\" Written by `dispatch man`, from the definitions of the commands.', *lines]) + "\n"
