"""Generates docs/commands.md from commands and settings: `python -m cli.reference > docs/commands.md`.

With `--man DIR` it writes the manual pages there instead (manual.py).
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import click

from cli.base import DispatchCommand
from cli.commands import SECTIONS, dispatch

HEAD = """\
# Commands

Written by `python -m cli.reference`; a test compares. `--json` works on every command, before or after it, and prints
exactly one JSON document (`watch`: one a line).

`--broker URL` and `--token TOKEN` (`-` reads standard input) go before or after a command and say which sign-in you
mean. Without a flag, `$DISPATCH_BROKER` and `$DISPATCH_TOKEN` do. A command that asks the daemon is refused (409) if
the daemon uses another sign-in; so is `logout` if another one is saved. `login` signs in at the broker that you name.
Where no daemon runs, the sign-in that you name overrides the saved one. The commands `config`, `plugin`, `completion`,
`man`, `demo` and `verify-receipt` use no sign-in: they refuse the flags and ignore the variables.

You can shorten the id of a dispatch or the token of an invitation to four or more characters from its beginning or end,
or from the beginning of what lists show, if only one matches. Exit codes: 0 done, 1 refused or failed, 2 wrong usage
(also error 422, for a value of the wrong form), 130 Ctrl-C.
"""

SHARED = ("json", "broker_flag", "token_flag")
"""Options described once, in the head of the document."""


def render() -> str:
    """Return the whole document."""
    from peer.machine.setting_keys import KEYS

    parts = [HEAD]
    context = click.Context(dispatch, info_name="dispatch")
    for section, entries in SECTIONS.items():
        parts.append(f"## {section}\n")
        for name in entries:
            command = dispatch.get_command(context, name)
            assert command is not None
            parts.append(_command(command, f"dispatch {name}"))
    parts.append("## Settings\n")
    parts.append("`dispatch config set KEY VALUE`; kept in `config.json` in the state folder.\n")
    parts.append("| setting | what it is |\n|---|---|")
    parts.append("\n".join(f"| `{key}` | {about.allowed} |" for key, about in KEYS.items()) + "\n")
    return "\n".join(parts)


def _command(command: click.Command, path: str) -> str:
    arguments = [_argument(item) for item in command.params if isinstance(item, click.Argument)]
    lines = [f"### `{' '.join([path, *arguments])}`\n", inspect.cleandoc(command.help or "") + "\n"]
    options = [item for item in command.params if isinstance(item, click.Option) and item.name not in SHARED]
    described = [f"- `{_flags(item)}` {item.help}" for item in options if item.help]
    if described:
        lines.append("\n".join(described) + "\n")
    if isinstance(command, DispatchCommand) and command.example:
        lines.append("\n".join(f"    {line}" for line in command.example.splitlines()) + "\n")
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            lines.append(_command(inner, f"{path} {name}"))
    return "\n".join(lines)


def _argument(item: click.Argument) -> str:
    return item.make_metavar(click.Context(click.Command("dispatch")))


def _flags(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    return names if option.is_flag or option.metavar is None else f"{names} {option.metavar}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--man"] and len(sys.argv) == 3:
        from cli.manual import write_pages

        write_pages(Path(sys.argv[2]))
    else:
        sys.stdout.write(render())
