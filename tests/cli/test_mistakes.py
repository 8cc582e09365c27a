"""Mistakes that people make on a command line, each with what leads out of it.

Those that the daemon finds, such as a contact whom nobody knows, are in tests/seed/test_mistakes.py.
"""

from __future__ import annotations

import shlex

import pytest

from cli.short_ids import shortened
from peer.machine.setting_keys import KEYS
from peer.trust.durations import forms
from tests.cli.conftest import Cli
from tests.cli.documents import FIRST, SECOND, document, result, row
from tests.cli.fake_api import FakeApi

BOB = "bob@example.org"

MISTAKES = [
    ("inboxx", "there is no command 'inboxx'", "did you mean `dispatch inbox`?"),
    ("list", "there is no command 'list'", "did you mean `dispatch inbox`?"),
    ("logs", "there is no command 'logs'", "did you mean `dispatch watch`?"),
    ("trust shwo alice", "there is no command 'shwo'", "did you mean `dispatch trust show`?"),
    ("help snd", "there is no command 'snd'", "did you mean `dispatch send`?"),
    (f"sendd {BOB} x", "there is no command 'sendd'", "did you mean `dispatch send`?"),
    (f"send {BOB} hello there world", "unexpected extra arguments", f"`dispatch send {BOB} 'hello there world'`"),
    (f"send hello there {BOB}", "unexpected extra argument", f"`dispatch send {BOB} 'hello there'`"),
    (f"send 'hello there' {BOB}", "the recipient comes first", f"`dispatch send {BOB} '…'`"),
    (f"send {BOB}", "TASK is missing", "`dispatch send bob@example.org 'Why does"),
    ("send", "RECIPIENT is missing", "`dispatch send bob@example.org 'Why does"),
    (f"send {BOB} hi --files nope.txt", "there is no option '--files'", "did you mean `--file`?"),
    (f"send {BOB} hi --file nope.txt", "there is no file nope.txt", "check the path"),
    (
        f"send {BOB} hi --expires 30",
        "--expires: `30` is not 60 to 86400 seconds",
        f"give {forms()}; see `dispatch send",
    ),
    (f"send {BOB} hi --expires 2d", "--expires: `2d` is not 60 to 86400 seconds", f"give {forms()}"),
    (f"send {BOB} hi --expires soon", "--expires: `soon` is not a length of time", f"give {forms()}"),
    ("trust edit alice --minutes 2d", "is not 1 to 1440 minutes", "`dispatch trust edit --help`"),
    (
        "accept",
        "ID is missing",
        "give an id that `dispatch inbox` lists, as in `dispatch accept 4e5f6a7b`; see `dispatch accept --help`",
    ),
    ("status", "ID is missing", "give an id that `dispatch inbox` or `dispatch sent` lists, as in `dispatch status"),
    ("accept aaaa7777", "is one that you sent: carol@example.org decides", "follow it: `dispatch watch aaaa7777`"),
    ("accept 12345678", "there is no dispatch '12345678' here", "`dispatch inbox` lists the ids"),
    ("status 12345678", "there is no dispatch", "`dispatch inbox` and `dispatch sent` list the ids"),
    ("status abcd5556", "there is no dispatch", "did you mean `dispatch status abcd5555` (alice@example.org)? Else"),
    ("accept abd5555", "there is no dispatch", "did you mean `dispatch accept abcd5555` (alice@example.org)? Else"),
    ("inbox --before abcd5556", "there is no dispatch", "did you mean abcd5555 (alice@example.org)? Else"),
    ("mcp-config claud", "is not one of", "did you mean `dispatch mcp-config claude`? Else see"),
    ("inbox --status runing", "is not one of", "did you mean `--status running`? Else see"),
    ("status zzz", "'zzz' is not a dispatch id", "that `dispatch inbox` shows"),
    ("approve", "ID is missing", "as in `dispatch approve 4e5f6a7b`"),
    ("accept-invitation", "TOKEN|ADDRESS|- is missing", "such as `dispatch accept-invitation"),
    ("config set mdel.api_key x", "unknown key 'mdel.api_key'", "did you mean `model.api_key`?"),
    ("-v", "there is no option '-v'", "did you mean `dispatch --version`?"),
    ("status 8", "'8' is not a dispatch id", "4 or more of the first or last characters that `dispatch inbox` shows"),
    (f"send {BOB} hi --meta ticket", "--meta takes KEY=VALUE, not 'ticket'", "`dispatch send --help`"),
    (f"send {BOB} hi --background @notes.md", "there is no file notes.md", "check the path"),
    ("approve abcd5555", "no tool call of abcd5555 is waiting for an answer", "`dispatch approvals`"),
    ("deny abcd5555 toolu_x", "abcd5555 has no open request 'toolu_x'", "`dispatch approvals`"),
    ("approve 12345678", "there is no dispatch '12345678' here", "`dispatch inbox` lists the ids"),
    ("approve aaaa7777", "is one that you sent: carol@example.org decides", "follow it: `dispatch watch aaaa7777`"),
    ("accept-invitation xyz", "'xyz' is not an invitation's token or address", "that `dispatch invitations` shows"),
    ("accept-invitation xyz --tools read", "'xyz' is not an invitation's token or address", "give the whole address"),
    ("join xyz", "this is not the token of an invitation", "copy it whole, or see `dispatch invitations`"),
    (f"alias {BOB}", "give a NAME, or --remove", "`dispatch alias --help`"),
    ("config set roots /nope", "there is no folder /nope", "name folders that exist"),
    ("config set port many", "port can't be 'many'", "0 to 65535"),
    ("fetch abcd5555", "abcd5555 has returned no files (it is completed)", "see `dispatch status abcd5555`"),
    ("verify-receipt nope", "there is no file nope", "check the path"),
    ("login --broker http://b.example --email a@b.example", "is plain http", "use https://b.example"),
    ("login --broker https://b.example --email me", "'me' is not an e-mail address", "write it like name@example.org"),
    ("login --broker b.example --email a@b.example", "not a URL with http or https", "https://b"),
    ("login", "no broker is known", "`dispatch login --broker https://…`"),
    ("inbox --stauts pending", "there is no option '--stauts'", "did you mean `--status`?"),
]


@pytest.mark.parametrize(("typed", "said", "fix"), MISTAKES, ids=[typed for typed, _, _ in MISTAKES])
def test_a_mistake_leads_out(cli: Cli, api: FakeApi, typed: str, said: str, fix: str) -> None:
    """Seen to fail with "see `dispatch --help`", or with a command that is something else, such as 'alias'."""
    sent = [row(SECOND, direction="sent", peer="carol@example.org")]
    api["GET /v1/dispatches"] = lambda asked: {
        "dispatches": [row(FIRST)] if asked.query["direction"] == "received" else sent
    }
    api["GET /v1/approvals"] = {"approvals": [], "more": False}
    api[f"GET /v1/dispatches/{FIRST}"] = document(status="completed", result=result())
    words = shlex.split(typed)
    outcome = cli(*words)
    assert outcome.code in (1, 2) and outcome.out == ""
    error, told = outcome.err.splitlines()
    assert said in error and fix in told, outcome.err
    assert shortened(cli(*words, "--json").document["error"]["fix"]) == told.removeprefix("fix: ")


def test_a_setting_that_is_not_set_says_so(cli: Cli) -> None:
    """Seen to fail with an empty line and nothing else."""
    said = cli("config", "get", "model.api_key")
    assert (said.code, said.out) == (0, "\n") and "it is not set" in said.err


SECRETS = [key for key, about in KEYS.items() if about.secret]
"""The settings that are shown masked."""


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_on_the_command_line_is_refused(cli: Cli, key: str) -> None:
    """Seen to fail where it was saved, after it had stood in the list of processes and in the shell's history."""
    typed = "http://me:tk_made-up@proxy.example:3128" if key == "model.proxy" else "https://ntfy.example/tk_made-up"
    refused = cli("config", "set", key, typed)
    assert refused.code == 2 and f"{key} is a secret" in refused.err
    assert f"`dispatch config set {key} -`" in refused.err and "made-up" not in refused.err
    assert cli("config", "get", key).out == "\n"
    assert cli("config", "set", key, "-", stdin=f"{typed}\n").code == 0
    assert cli("config", "get", key, "--reveal").out == f"{typed}\n"
    assert cli("config", "set", key, "").code == 0 and cli("config", "get", key).out == "\n"


def test_a_proxy_without_a_password_is_no_secret(cli: Cli) -> None:
    for plain in ("http://proxy.example:3128", "none"):
        assert cli("config", "set", "model.proxy", plain).code == 0


@pytest.mark.parametrize("group", ["trust", "config", "plugin", "service", "broker"])
def test_a_group_alone_lists_its_commands(cli: Cli, group: str) -> None:
    """In JSON an example leads out. Seen to fail with "Missing command." there, and no example."""
    told = cli(group)
    assert told.code == 2 and "Commands:" in told.err and f"dispatch {group} " in told.err
    error = cli(group, "--json").document["error"]
    assert error["message"] == "a command is missing" and f"such as `dispatch {group} " in error["fix"]
