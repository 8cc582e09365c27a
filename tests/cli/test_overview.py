"""`dispatch` alone: the first steps on a machine where nothing is set up, else what waits; and help by words."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest

from peer import VERSION
from tests.cli.conftest import Cli
from tests.cli.documents import FIRST, edge, me
from tests.cli.fake_api import FakeApi


def test_on_a_new_machine_it_says_the_first_steps(cli: Cli) -> None:
    outcome = cli()
    assert outcome.code == 0
    assert "`dispatch setup`" in outcome.out and "sign-in: `dispatch login --broker https://…`" in outcome.out
    assert "waits" not in outcome.out
    document = cli("--json").document
    assert document["waiting"] == {}
    assert [part["name"] for part in document["parts"]] == ["sign-in", "daemon", "model key", "projects"]
    assert not any(part["done"] for part in document["parts"])


def given(api: FakeApi, **lists: Any) -> None:
    """Have the daemon answer with so many of each."""
    rows = [{"dispatch_id": FIRST, "status": "pending"}] * lists.get("pending", 0)
    changed = [{"dispatch_id": FIRST, "status": "completed", "changes_waiting": 2}] * lists.get("changed", 0)

    def dispatches(asked: Any) -> Any:
        status = asked.query.get("status")
        return {"dispatches": {"pending": rows, "held": [], None: rows + changed}[status], "more": False}

    api["GET /v1/dispatches"] = dispatches
    api["GET /v1/approvals"] = {"approvals": [{}] * lists.get("calls", 0), "more": False}
    sent = [{"progress": "mailed"}] + [{"progress": "other_key"}] * lists.get("other_keys", 0)
    api["GET /v1/invitations"] = {"sent": sent, "received": [{}] * lists.get("invitations", 0), "more": False}
    api["GET /v1/contacts"] = {"trust": lists.get("edges", [])}
    api["GET /v1/whoami"] = me() | {"runtime": {"name": "claude", "login": lists.get("login", False)}}


def test_it_says_what_waits(cli: Cli, api: FakeApi) -> None:
    cli.folder.write_private(cli.folder.store, b"")
    given(api, pending=2, changed=1, calls=1, invitations=3, other_keys=1)
    outcome = cli()
    assert [line.split("  ")[0] for line in outcome.out.splitlines()[:5]] == [
        "2 dispatches to decide on",
        "1 tool call to answer",
        "1 run with changes to review",
        "3 invitations to answer",
        "1 answer to your invitation under a different key",
    ]
    assert "`dispatch approvals`" in outcome.out
    counts = {"decisions": 2, "approvals": 1, "changes": 1, "invitations": 3, "other_keys": 1}
    assert cli("--json").document["waiting"] == counts


def test_without_a_daemon_it_says_what_the_store_holds_and_how_to_go_on(cli: Cli, reader: dict[str, Any]) -> None:
    reader.update(received=[], invitations={"sent": [], "received": [{}]}, contacts={"trust": []})
    outcome = cli()
    assert outcome.code == 0 and outcome.out.startswith("1 invitation to answer")
    assert "`dispatch service install`" in outcome.out and "the daemon is not running" in outcome.err


def test_where_nothing_waits_it_says_so(cli: Cli, api: FakeApi) -> None:
    cli.folder.write_private(cli.folder.store, b"")
    given(api)
    assert cli().out.startswith("nothing is waiting for you\n")


KEYLESS = "no task can run on this machine: it has no model key. To fix this: `dispatch config set model.api_key -`\n"


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({}, False),
        ({"edges": [edge(direction="outgoing")]}, False),
        ({"edges": [edge(status="revoked"), edge(status="paused")]}, False),
        ({"edges": [edge()]}, True),
        ({"pending": 1}, True),
        ({"edges": [edge()], "login": True}, False),
    ],
    ids=["nobody", "only sends", "ended", "somebody may", "a task waits", "the daemon has a key"],
)
def test_where_no_task_can_run_it_says_what_is_missing(
    cli: Cli, api: FakeApi, lists: dict[str, Any], said: bool
) -> None:
    """Only where one is to run. Seen to fail with "nothing waits for you" and no word of it."""
    cli.folder.write_private(cli.folder.store, b"")
    given(api, **lists)
    assert (KEYLESS in cli().out) is said
    found = cli("--json").document["cannot_run"]
    assert found == (
        {"message": "it has no model key", "fix": "`dispatch config set model.api_key -`"} if said else None
    )


def test_with_a_key_it_asks_no_further(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.folder.write_private(cli.folder.store, b"")
    given(api, edges=[edge()])
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-made-up")
    assert "no task can run" not in cli().out
    assert not api.bodies("GET", "/v1/contacts") and not api.bodies("GET", "/v1/whoami")


def test_without_the_agents_program_it_says_so_first(
    cli: Cli, reader: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a key, too, and with no daemon to ask."""
    monkeypatch.setattr("importlib.metadata.version", lacking)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-made-up")
    reader.update(
        received=[], invitations={"sent": [], "received": []}, contacts={"trust": [edge()]}, whoami={"runtime": {}}
    )
    assert "no task can run on this machine: the claude agent is not installed. To fix this: " in cli().out


def lacking(name: str) -> str:
    raise metadata.PackageNotFoundError(name)


@pytest.mark.parametrize("words", [["trust", "edit"], ["send"], []])
def test_help_is_a_command_too(cli: Cli, words: list[str]) -> None:
    assert cli("help", *words).out == cli(*words, "--help").out


def test_help_of_what_there_is_not(cli: Cli) -> None:
    outcome = cli("help", "snd")
    assert outcome.code == 2 and "did you mean `dispatch send`?" in outcome.err
    outcome = cli("help", "send", "more")
    assert outcome.code == 2 and "no subcommands" in outcome.err


def test_the_version_is_a_command_too(cli: Cli) -> None:
    assert cli("version").out == f"dispatch {VERSION}\n"
    assert cli("version", "--json").document == {"version": VERSION}


@pytest.mark.parametrize(
    ("typed", "meant"), [("list", "inbox"), ("logs", "watch"), ("LS", "inbox"), ("inboxx", "inbox")]
)
def test_other_programs_words_are_understood_as_such(cli: Cli, typed: str, meant: str) -> None:
    outcome = cli(typed)
    assert outcome.code == 2 and f"did you mean `dispatch {meant}`?" in outcome.err
