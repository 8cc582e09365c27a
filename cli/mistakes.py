"""What leads out of a command line that cannot be parsed: the command that was probably meant, as it can be typed."""

from __future__ import annotations

import difflib
import re
import shlex

import click

from cli.base import UnknownCommand

SHOWN = 200
"""Characters of a command in a fix; a longer text is left to the person."""
MEANT_OPTIONS = {"-v": "--version", "-V": "--version", "-?": "--help", "-H": "--help"}
"""Options that other programs have for what is called otherwise here."""
OF_RECEIVED = ("accept", "decline", "approve", "deny", "release", "changes", "apply", "discard", "undo")
"""Commands about dispatches that were sent to this machine."""
ADDRESS = re.compile(r"[^\s@]+@[^\s@]+")


def said(error: click.ClickException) -> str:
    """Return what is wrong, in one sentence."""
    if isinstance(error, click.NoSuchOption):
        return f"there is no option {error.option_name!r}"
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument):
        return f"{_metavar(error.param)} is missing"
    if _lacks_command(error):
        return "a command is missing"
    return error.format_message()


def fix(error: click.ClickException) -> str:
    """Return what helps: a command in backticks, and where all is explained."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    path = ctx.command_path if ctx else "dispatch"
    see = f"see `{path} --help`"
    takes_text = ctx is not None and any(isinstance(param, click.Argument) for param in ctx.command.params)
    if isinstance(error, UnknownCommand):
        return f"did you mean `{path} {error.meant}`? Else {see}" if error.meant else see
    if isinstance(error, click.NoSuchOption):
        near = _option(error, ctx)
        meant = f"did you mean `{path} {near}`? Else " if near and ctx and ctx.parent is None else ""
        meant = meant or (f"did you mean `{near}`? Else " if near else "")
        return f"{meant}{see}" + ("; a text that begins with a dash goes after ` -- `" if takes_text else "")
    if isinstance(error, click.BadParameter) and (meant := _choice(error, path)):
        return f"did you mean `{meant}`? Else {see}"
    if ctx is not None and (isinstance(error, click.MissingParameter) or _lacks_command(error)):
        return f"{_example(ctx)}{see}"
    if ctx is not None and takes_text and "unexpected extra argument" in error.message:
        return _quoted(ctx, error.message) or f"{see}; a text of several words goes in quotes"
    return see


def _lacks_command(error: click.ClickException) -> bool:
    """Whether a group stands alone where its help cannot be shown instead, as with --json."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return ctx is not None and isinstance(ctx.command, click.Group) and error.message == "Missing command."


def _option(error: click.NoSuchOption, ctx: click.Context | None) -> str:
    """Return the option that was probably meant, or ""."""
    if ctx is not None and ctx.parent is None and error.option_name in MEANT_OPTIONS:
        return MEANT_OPTIONS[error.option_name]
    known = [name for param in ctx.command.params for name in param.opts if name.startswith("--")] if ctx else []
    near = difflib.get_close_matches(error.option_name, known, n=1)
    return near[0] if near and len(error.option_name) > 2 else ""


def _metavar(param: click.Argument) -> str:
    return param.make_metavar(click.Context(click.Command("dispatch")))


def _example(ctx: click.Context) -> str:
    """Return the command's first example, and where its ids are listed."""
    example = str(getattr(ctx.command, "example", "")).split("\n")[0]
    if "4e5f6a7b" in example:
        listed = (
            "`dispatch inbox` lists" if ctx.command.name in OF_RECEIVED else "`dispatch inbox` or `dispatch sent` lists"
        )
        return f"give an id that {listed}, as in `{example}`; "
    return f"such as `{example}`; " if example else ""


def _choice(error: click.BadParameter, path: str) -> str:
    """Return the command, or the option, with the one of its enumerated values that was probably meant, or ""."""
    param = error.param
    typed = re.match(r"'(.+?)' is not one of", error.message)
    if param is None or typed is None or not isinstance(param.type, click.Choice):
        return ""
    near = difflib.get_close_matches(typed[1], map(str, param.type.choices), n=1)
    if not near:
        return ""
    return f"{path} {near[0]}" if isinstance(param, click.Argument) else f"{param.opts[0]} {near[0]}"


def _quoted(ctx: click.Context, message: str) -> str:
    """Return `send` with all the words of its task in quotes, the address first wherever it stood; "" for others."""
    extra = re.search(r"\((.*)\)$", message, re.DOTALL)
    if ctx.command.name != "send" or extra is None:
        return ""
    words = [str(ctx.params.get("recipient")), str(ctx.params.get("task")), *extra[1].split()]
    recipient = words[0] if ADDRESS.fullmatch(words[0]) else next(filter(ADDRESS.fullmatch, words), words[0])
    words.remove(recipient)
    command = f"dispatch send {shlex.quote(recipient)} {shlex.quote(' '.join(words))}"
    if len(command) > SHOWN or "`" in command:
        return ""
    return f"a text of several words goes in quotes: `{command}`"
