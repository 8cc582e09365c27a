"""Mistakes that people make on a command line, each with what leads out of it."""

from __future__ import annotations

import shlex

import pytest

from tests.cli.conftest import Cli
from tests.cli.documents import FIRST, SECOND, row
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
    (f"send {BOB} hi --expires 30", "which may also be written as 30m, 1h or 1d", "`dispatch send --help`"),
    ("trust edit alice --minutes 2d", "is not 1 to 1440 minutes", "`dispatch trust edit --help`"),
    (
        "accept",
        "ID is missing",
        "`dispatch inbox` and `dispatch sent` list the ids; such as `dispatch accept 4e5f6a7b`",
    ),
    ("accept aaaa7777", "is one that you sent: carol@example.org decides", "follow it: `dispatch watch aaaa7777`"),
    ("accept 12345678", "no dispatch '12345678' is known here", "`dispatch inbox --json`"),
    ("status zzz", "'zzz' is not a dispatch id", "that `dispatch inbox` shows"),
    ("approve", "ID is missing", "such as `dispatch approve 4e5f6a7b`"),
    ("accept-invitation", "TOKEN|ADDRESS|- is missing", "such as `dispatch accept-invitation"),
    ("config set mdel.api_key x", "unknown key 'mdel.api_key'", "did you mean `model.api_key`?"),
    ("-v", "there is no option '-v'", "did you mean `dispatch --version`?"),
    ("inbox --stauts pending", "there is no option '--stauts'", "did you mean `--status`?"),
]


@pytest.mark.parametrize(("typed", "said", "fix"), MISTAKES, ids=[typed for typed, _, _ in MISTAKES])
def test_a_mistake_leads_out(cli: Cli, api: FakeApi, typed: str, said: str, fix: str) -> None:
    """Seen to fail with "see `dispatch --help`", or with a command that is something else, such as 'alias'."""
    sent = [row(SECOND, direction="sent", peer="carol@example.org")]
    api["GET /v1/dispatches"] = lambda asked: {
        "dispatches": [row(FIRST)] if asked.query["direction"] == "received" else sent
    }
    words = shlex.split(typed)
    outcome = cli(*words)
    assert outcome.code in (1, 2) and outcome.out == ""
    error, told = outcome.err.splitlines()
    assert said in error and fix in told, outcome.err
    assert cli(*words, "--json").document["error"]["fix"] == told.removeprefix("fix: ")


def test_a_setting_that_is_not_set_says_so(cli: Cli) -> None:
    """Seen to fail with an empty line and nothing else."""
    said = cli("config", "get", "model.api_key")
    assert (said.code, said.out) == (0, "\n") and "it is not set" in said.err
