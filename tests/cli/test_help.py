"""The commands are those that were promised, and each of them, with each of its options, explains itself by example."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest

from cli.base import DispatchCommand, DispatchGroup
from cli.commands import SECTIONS, dispatch
from peer import VERSION
from tests.cli.conftest import Cli

PROMISED = [
    *("setup", "join", "login", "logout", "broker", "whoami", "doctor", "config", "demo", "open", "service", "plugin"),
    *("mcp-config", "completion", "help", "man", "version"),
    *("contacts", "alias", "invite", "invitations", "accept-invitation", "decline-invitation"),
    *("block", "unblock", "trust"),
    *("send", "sent", "inbox", "status", "watch", "cancel", "fetch", "receipt", "verify-receipt"),
    *("accept", "decline", "approvals", "approve", "deny", "release"),
    *("changes", "apply", "discard", "undo"),
]

PROMISED_BELOW = {
    "broker": ["add", "list", "remove"],
    "config": ["get", "list", "set"],
    "invitations": ["withdraw"],
    "plugin": ["install", "uninstall"],
    "service": ["install", "status", "uninstall"],
    "trust": ["edit", "forget-key", "pause", "resume", "revoke", "show"],
}

SCOPE = (
    "--tools --mcp-servers --paths --approval --max-per-day --expires --results --apply --toolchains "
    "--network --minutes --turns --usd --output-mb --network-mb --yes-unverified --yes-by-proxy"
)
PROMISED_OPTIONS = {
    "login": "--broker --email --no-browser --label",
    "broker add": "--email --no-browser --label",
    "broker remove": "--yes",
    "doctor": "--fix",
    "service install": "--linger --show --yes",
    "service uninstall": "--yes",
    "accept-invitation": SCOPE,
    "join": f"--email --no-browser --label {SCOPE}",
    "trust edit": SCOPE,
    "send": "--expires --meta --file --project --link --deliverable --background --device --wait",
    "sent": "--status --limit",
    "inbox": "--status --limit",
    "accept": "--cwd --follow",
    "decline": "--reason",
    "approve": "--always --session --rule",
    "deny": "--note",
    "changes": "--diff --file",
    "apply": "--all --marked --dry-run",
    "fetch": "--to --force",
    "approvals": "--list",
    "status": "--raw",
    "watch": "--raw",
    "man": "--to",
    "receipt": "--out",
    "verify-receipt": "--root",
}


def walk(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        full = f"{path} {name}".strip()
        yield full, command
        if isinstance(command, click.Group):
            yield from walk(command, full)


EVERY = dict(walk(dispatch))


def test_the_commands_are_the_promised_ones() -> None:
    found = [name for section in SECTIONS.values() for name in section]
    assert sorted(set(found)) == sorted(PROMISED)
    for name, below in PROMISED_BELOW.items():
        assert sorted(full.split()[1] for full in EVERY if full.startswith(f"{name} ")) == below


@pytest.mark.parametrize("name", PROMISED_OPTIONS)
def test_the_options_are_there(name: str) -> None:
    found = {text for param in EVERY[name].params for text in param.opts}
    assert set(PROMISED_OPTIONS[name].split()) <= found


@pytest.mark.parametrize("name", EVERY)
def test_a_command_explains_itself_and_each_option(name: str) -> None:
    command = EVERY[name]
    assert isinstance(command, DispatchCommand | DispatchGroup)
    assert command.help
    assert command.help.split("\n")[0].endswith(".")
    assert "--json" in [text for param in command.params for text in param.opts]
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, f"{name} {param.opts}"
            assert param.help.endswith("."), f"{name} {param.opts}"


@pytest.mark.parametrize("name", EVERY)
def test_the_examples_can_be_typed(name: str) -> None:
    """They name the command itself, and click takes their arguments as they stand."""
    command = EVERY[name]
    assert isinstance(command, DispatchCommand | DispatchGroup)
    examples = command.example.splitlines()
    assert examples
    for example in examples:
        program, *words = shlex.split(example.split(" < ")[0].split(" > ")[0].split(" | ")[0])
        assert program == "dispatch"
        path = name.split()
        assert words[: len(path)] == path
        if not isinstance(command, click.Group):
            arguments = words[len(path) :]
            parsed = DispatchCommand(
                name="x",
                params=[p for p in command.params if p.name not in ("json", "broker_flag", "token_flag", "cwd")],
            )
            parsed.params += [click.Option(["--cwd"])]
            if "-" not in arguments:
                parsed.make_context("x", arguments)


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("name", ["", *EVERY])
def test_help_is_everywhere_and_has_its_example(cli: Cli, name: str, flag: str) -> None:
    outcome = cli(*name.split(), flag)
    assert outcome.code == 0
    assert f"Usage: dispatch {name}".rstrip() in outcome.out
    assert "Example" in outcome.out


@pytest.mark.parametrize("columns", [30, 40, 60, 80])
@pytest.mark.parametrize("name", ["", "send", "trust edit", "completion"])
def test_help_fits_on_a_narrow_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, columns: int) -> None:
    """Seen to fail at 40 columns with lines of 50, which click never goes below, and examples of any length."""
    monkeypatch.setenv("COLUMNS", str(columns))
    words, _, examples = cli("help", *name.split()).out.partition("Examples:\n")
    assert [line for line in words.splitlines() if len(line) > columns] == []
    for line in examples.splitlines():
        assert len(line) <= columns or len(shlex.split(line.removesuffix("\\").lstrip(" <>|"))) == 1, line
    command = EVERY[name] if name else dispatch
    assert isinstance(command, DispatchCommand)
    typed = examples.replace("\\\n", "").splitlines()
    assert [shlex.split(each) for each in typed] == [shlex.split(each) for each in command.example.splitlines()]


def test_the_short_words_of_the_table_are_those_of_the_commands() -> None:
    """The table is there so that help need not load the commands; it may say the same in fewer words, never nothing."""
    for section in SECTIONS.values():
        for name, entry in section.items():
            assert entry.summary.endswith("."), name
            assert len(entry.summary) <= 60, name


def test_the_version(cli: Cli) -> None:
    assert cli("--version").out == f"dispatch {VERSION}\n"


def test_no_summary_of_a_command_is_cut(cli: Cli) -> None:
    """Seen to fail with "End what I granted to PEER: running work is killed, the rest..."."""
    groups = [path for path, command in walk(dispatch) if isinstance(command, click.Group)]
    for path in groups:
        assert "..." not in cli(*path.split(), "--help").out.partition("Commands:")[2], path
