"""The table of commands and its parsing by click. Each command has its module; exit codes of errors are in main.py."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.app import App
from cli.base import Entry, LazyGroup
from peer import VERSION
from peer.protocol.errors import Invalid

DONE, USAGE = 0, 2

SECTIONS = {
    "Daily": {
        "inbox": Entry("cli.dispatches", "inbox", "List the dispatches sent to you."),
        "send": Entry("cli.send", "send", "Send a task to a contact's machine."),
        "sent": Entry("cli.dispatches", "sent", "List the dispatches you sent."),
        "status": Entry("cli.dispatches", "status", "Show one dispatch with its full trace."),
        "accept": Entry("cli.decisions", "accept", "Run a dispatch that was sent to you."),
        "decline": Entry("cli.decisions", "decline", "Refuse a dispatch that was sent to you."),
        "approvals": Entry("cli.decisions", "approvals", "Answer the tool calls that are waiting."),
        "changes": Entry("cli.review", "changes", "Show what a run changed in your folders."),
        "apply": Entry("cli.review", "apply", "Apply a run's changes to your folders."),
        "open": Entry("cli.open_page", "open_page", "Open the local page in the browser, signed in."),
    },
    "Dispatches": {
        "watch": Entry("cli.watch", "watch", "Follow one dispatch live."),
        "cancel": Entry("cli.dispatches", "cancel", "Stop a dispatch that you sent or received."),
        "fetch": Entry("cli.fetch", "fetch", "Save returned files to a new folder."),
        "receipt": Entry("cli.receipts", "receipt", "Export the signed proof of what was asked and done."),
        "verify-receipt": Entry("cli.receipts", "verify_receipt", "Check a receipt, offline."),
    },
    "Decisions": {
        "approve": Entry("cli.decisions", "approve", "Allow one waiting tool call."),
        "deny": Entry("cli.decisions", "deny", "Deny one waiting tool call."),
        "release": Entry("cli.release", "release", "Send a held result to the dispatch's sender."),
        "discard": Entry("cli.review", "discard", "Discard a run's waiting changes."),
        "undo": Entry("cli.review", "undo", "Undo the changes that were applied last."),
    },
    "People": {
        "contacts": Entry("cli.trust", "contacts", "List who may dispatch to whom."),
        "alias": Entry("cli.trust", "alias", "Give a contact a name of your own."),
        "invite": Entry("cli.invitations", "invite", "Ask someone to let you dispatch to them."),
        "invitations": Entry("cli.invitations", "invitations", "List open invitations, sent and received."),
        "accept-invitation": Entry("cli.invitations", "accept_invitation", "Let an inviter dispatch to you."),
        "decline-invitation": Entry("cli.invitations", "decline_invitation", "Decline an invitation."),
        "block": Entry("cli.invitations", "block", "Refuse everything from someone."),
        "unblock": Entry("cli.invitations", "unblock", "Let someone you blocked invite you again."),
        "trust": Entry("cli.trust", "trust", "Show, change or end what you granted to someone."),
    },
    "This device": {
        "setup": Entry("cli.setup.command", "setup", "Set up this machine, step by step."),
        "join": Entry("cli.join", "join", "Answer an invitation from its link, step by step."),
        "login": Entry("cli.login", "login", "Sign in to a broker and register this device."),
        "logout": Entry("cli.login", "logout", "Sign this device out."),
        "broker": Entry("cli.broker", "broker", "Add, list or remove brokers."),
        "whoami": Entry("cli.health", "whoami", "Show who you are, and the state of this device."),
        "doctor": Entry("cli.health", "doctor", "Check every part, and say how to fix what is broken."),
        "config": Entry("cli.config", "config", "Show and change the settings."),
        "demo": Entry("cli.demo.command", "demo", "Watch one dispatch, from invitation to result."),
        "service": Entry("cli.service.command", "service", "Keep the daemon running."),
        "plugin": Entry("cli.plugin", "plugin", "Use dispatch from inside Claude Code."),
        "mcp-config": Entry("cli.mcp_config", "mcp_config", "Print the MCP configuration for another agent."),
        "completion": Entry("cli.completion", "completion", "Print the completion script for a shell."),
        "help": Entry("cli.help", "help_", "Explain a command."),
        "man": Entry("cli.manual", "man", "Show a manual page, or write all of them."),
        "version": Entry("cli.help", "version", "Show the version."),
    },
}

MEANT = {
    **dict.fromkeys(("list", "ls", "ps", "tasks", "pending"), "inbox"),
    **dict.fromkeys(("log", "logs", "follow", "tail", "attach"), "watch"),
    **dict.fromkeys(("show", "info", "get", "cat"), "status"),
    **dict.fromkeys(("run", "start", "resume-run"), "accept"),
    **dict.fromkeys(("reject", "refuse"), "decline"),
    **dict.fromkeys(("stop", "kill", "abort"), "cancel"),
    **dict.fromkeys(("diff", "review"), "changes"),
    **dict.fromkeys(("allow", "yes"), "approve"),
    **dict.fromkeys(("people", "friends", "users", "peers"), "contacts"),
    **dict.fromkeys(("settings", "set"), "config"),
    **dict.fromkeys(("init", "install", "begin"), "setup"),
    **dict.fromkeys(("signin", "sign-in", "auth", "register"), "login"),
    **dict.fromkeys(("health", "check", "ping"), "doctor"),
    **dict.fromkeys(("manual", "docs"), "man"),
    **dict.fromkeys(("web", "page", "ui", "gui"), "open"),
}
"""Words that other programs have for what is called otherwise here: suggested, never taken for it."""


def _show_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    app = ctx.find_object(App)
    show_version(app)
    ctx.exit()


def show_version(app: App | None) -> None:
    """Print the version."""
    if app is not None and app.out.json:
        app.out.document({"version": VERSION})
    else:
        click.echo(f"dispatch {VERSION}")


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    meant=MEANT,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    example="dispatch login --broker https://broker.example\n"
    "dispatch invite bob@example.org\n"
    "dispatch send bob@example.org 'Why does the build of shop fail?' --wait\n"
    "dispatch inbox --json",
    subcommand_metavar="COMMAND …",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def dispatch(ctx: click.Context) -> int | None:
    """Send tasks to the agents of people who trust you, and decide what theirs may do here.

    Without a command, it shows what is waiting for you.

    `--json`, `--broker` and `--token` go before or after any command. `--broker` and `--token` say which sign-in you
    mean; a daemon with another sign-in refuses the command (error 409). You can shorten an id to four or more
    characters from its beginning or end, or from the beginning of what lists show, if only one id matches.
    """
    app = ctx.find_object(App)
    if ctx.invoked_subcommand is not None or app is None:  # shell completion has no invocation
        return None
    from cli.overview import show

    return show(app)


def parse_and_run(app: App, args: Sequence[str]) -> int:
    """Run one command line; return its exit code, 2 if it can't be parsed. Raises what the command raises."""
    try:
        result = dispatch.main(args=list(args), prog_name="dispatch", standalone_mode=False, obj=app)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        from cli import mistakes

        app.out.error(Invalid(mistakes.said(error), fix=mistakes.fix(error)))
        return USAGE
    except click.Abort:
        raise KeyboardInterrupt from None
    return result if isinstance(result, int) else DONE
