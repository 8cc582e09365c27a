"""What holds for every command: `--json` and the sign-in's options on either side, exit codes, help, short ids."""

from __future__ import annotations

import json
from functools import cache

import click
import pytest

from cli.commands import SECTIONS, dispatch
from tests.seed.conftest import People, Scene, invited
from tests.system.world import Person

SOME = "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"

DAEMON = {
    "broker list": ["broker", "list"],
    "broker remove": ["broker", "remove", "https://broker.example", "--yes"],
    "invite": ["invite", "zoe@example.org"],
    "invitations": ["invitations"],
    "invitations withdraw": ["invitations", "withdraw", SOME],
    "accept-invitation": ["accept-invitation", SOME, "--tools", "Read"],
    "decline-invitation": ["decline-invitation", SOME],
    "block": ["block", "mallory@example.org"],
    "unblock": ["unblock", "mallory@example.org"],
    "contacts": ["contacts"],
    "contacts add-address": ["contacts", "add-address", "bob@example.org", "/ip4/192.0.2.1/tcp/4001"],
    "contacts remove-address": ["contacts", "remove-address", "bob@example.org", "/ip4/192.0.2.1/tcp/4001"],
    "alias": ["alias", "bob@example.org", "Bobby"],
    "trust show": ["trust", "show", "bob@example.org"],
    "trust edit": ["trust", "edit", "bob@example.org", "--max-per-day", "3"],
    "trust pause": ["trust", "pause", "bob@example.org"],
    "trust resume": ["trust", "resume", "bob@example.org"],
    "trust revoke": ["trust", "revoke", "bob@example.org"],
    "trust forget-key": ["trust", "forget-key", "bob@example.org", "--yes"],
    "send": ["send", "bob@example.org", "Do it"],
    "sent": ["sent"],
    "inbox": ["inbox"],
    "status": ["status", SOME],
    "watch": ["watch", SOME],
    "cancel": ["cancel", SOME],
    "fetch": ["fetch", SOME],
    "receipt": ["receipt", SOME],
    "accept": ["accept", SOME],
    "decline": ["decline", SOME],
    "approvals": ["approvals"],
    "approve": ["approve", SOME, "r-1"],
    "deny": ["deny", SOME, "r-1"],
    "release": ["release", SOME],
    "changes": ["changes", SOME],
    "apply": ["apply", SOME, "--all"],
    "discard": ["discard", SOME],
    "undo": ["undo", SOME],
    "whoami": ["whoami"],
    "open": ["open"],
}
"""Every command that asks the daemon."""
ITSELF = {"setup", "login", "logout", "doctor"}
"""Commands that use the sign-in themselves."""
WITHOUT = {
    "join": ["join", SOME],
    "broker add": ["broker", "add", "https://broker.example"],
    "config list": ["config", "list"],
    "config get": ["config", "get", "port"],
    "config set": ["config", "set", "port", "8001"],
    "completion": ["completion", "bash"],
    "mcp-config": ["mcp-config", "codex"],
    "service install": ["service", "install", "--show"],
    "service status": ["service", "status"],
    "service uninstall": ["service", "uninstall"],
    "plugin install": ["plugin", "install"],
    "plugin uninstall": ["plugin", "uninstall"],
    "verify-receipt": ["verify-receipt", "nothing.receipt"],
    "demo": ["demo", "--yes"],
    "help": ["help"],
    "man": ["man"],
    "version": ["version"],
}
"""Commands that use no sign-in."""


@cache
def commands() -> frozenset[str]:
    """Return the name of every command, those of groups by both words; groups that do something by themselves too."""
    found: set[str] = set()
    context = click.Context(dispatch)
    for name in (name for section in SECTIONS.values() for name in section):
        command = dispatch.get_command(context, name)
        if isinstance(command, click.Group):
            found |= {f"{name} {below}" for below in command.list_commands(context)}
        if not isinstance(command, click.Group) or command.invoke_without_command:
            found.add(name)
    return frozenset(found)


def test_every_command_is_in_one_of_the_tables_here() -> None:
    assert commands() == set(DAEMON) | ITSELF | set(WITHOUT)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long if number % 6 else ()) for number, name in enumerate(DAEMON)],
)
def test_a_daemon_that_is_signed_in_elsewhere_refuses(name: str, people: People) -> None:
    """Before the command and after it, by flag and by variable; nothing is done."""
    arguments, carol = DAEMON[name], people.carol
    before = carol.count("invitations"), carol.count("dispatches")
    for told in (["--broker", "https://other.example", *arguments], [*arguments, "--token", "another"]):
        error = carol.refused(*told)
        assert error["code"] == 409 and "signed in" in error["message"] and "leave" in error["fix"], told
    carol.environment["DISPATCH_BROKER"] = "https://other.example"
    try:
        error = carol.refused(*arguments)
    finally:
        del carol.environment["DISPATCH_BROKER"]
    assert error["code"] == 409 and "https://other.example" in error["message"]
    assert (carol.count("invitations"), carol.count("dispatches")) == before


def test_naming_the_daemons_own_sign_in_is_no_error(people: People) -> None:
    """Whatever its form: the broker's address is compared as it is meant."""
    saved = json.loads(people.carol.state.config.read_bytes())
    flags = ["--broker", saved["broker"] + "/", "--token", saved["token"]]
    assert people.carol.cli(*flags, "inbox", "--json").json["dispatches"] == []
    assert people.carol.cli("inbox", "--json", *flags).json["dispatches"] == []
    assert people.carol.cli("inbox", "--json", "--token", "-", stdin=saved["token"] + "\n").json["dispatches"] == []


@pytest.mark.parametrize("name", WITHOUT)
def test_a_command_that_uses_no_sign_in_takes_none(name: str, people: People) -> None:
    for told in (["--broker", "https://b.example", *WITHOUT[name]], [*WITHOUT[name], "--token", "t"]):
        error = people.carol.refused(*told)
        assert error["code"] == 422 and "uses no sign-in" in error["message"]


def test_doctor_uses_the_sign_in_that_is_named(people: People) -> None:
    checks = people.dora.cli("doctor", "--json", "--broker", "http://127.0.0.1:9", status=1).json["checks"]
    by_name = {check["name"]: check for check in checks}
    assert "http://127.0.0.1:9" in by_name["broker"]["detail"] and not by_name["broker"]["ok"]
    assert not by_name["sign-in"]["ok"]


@pytest.mark.parametrize("arguments", [["inbox"], ["sent"], ["contacts"], ["invitations"], ["approvals"], ["whoami"]])
def test_json_stands_before_or_after_the_command(arguments: list[str], people: People) -> None:
    assert people.bob.cli("--json", *arguments).json == people.bob.cli(*arguments, "--json").json


def test_a_failure_is_one_json_document_too(people: People) -> None:
    said = people.alice.cli("send", "nobody@example.org", "x", "--json", status=1)
    assert set(said.json) == {"error"} and set(said.json["error"]) == {"code", "message", "fix"}


def test_people_see_the_code_and_the_fix_of_an_error(people: People) -> None:
    errors = people.alice.cli("send", "nobody@example.org", "x", status=1).errors
    assert errors.startswith("error 403: ") and "\nfix: " in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["invite", "notanemail"],
        ["send", "bob@example.org", ""],
        ["inbox", "--limit", "0"],
        ["status", "no-id"],
        ["accept-invitation", "nonsense", "--tools", "Read"],
        ["nonsense"],
        ["send"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], people: People) -> None:
    assert people.alice.refused(*arguments)["code"] == 422


@pytest.mark.parametrize("tools", ["", "Reed", "Read,Nope"])
def test_tools_that_do_not_exist_are_wrong_usage(tools: str, people: People) -> None:
    assert people.bob.refused("trust", "edit", people.alice.email, "--tools", tools)["code"] == 422


def test_help_shows_an_example(people: People) -> None:
    for name in ("send", "accept-invitation", "approve"):
        assert f"dispatch {name}" in people.alice.cli(name, "-h")


def test_version(people: People) -> None:
    version = people.alice.cli("--version").split()[1]
    assert people.alice.cli("--version", "--json").json == {"version": version}
    assert people.alice.cli("--json", "--version").json == {"version": version}


def test_a_mistyped_command_gets_the_nearest_one(people: People) -> None:
    assert "`dispatch inbox`" in people.alice.cli("inbx", status=2).errors


def test_the_short_id_that_is_shown_is_taken_back(done: Scene) -> None:
    for person, command in ((done.people.alice, "sent"), (done.people.bob, "inbox")):
        assert done.short in person.cli(command)
        assert person.cli("status", done.short, "--json").json["dispatch_id"] == done.dispatch_id


@pytest.mark.parametrize("part", [slice(None, 18), slice(-4, None), slice(-12, None), slice(-8, -3), slice(None)])
def test_an_id_is_known_by_any_end_of_it(part: slice, done: Scene) -> None:
    """Also by the beginning of the eight characters that lists show. The first ones are its time: others share them."""
    given = done.dispatch_id[part]
    assert done.people.alice.cli("status", given, "--json").json["dispatch_id"] == done.dispatch_id


def test_a_part_that_fits_several_ids_is_refused_and_names_them(people: People, done: Scene) -> None:
    other = people.sent("Another")
    error = people.alice.refused("status", other[:4])
    assert error["code"] == 422 and "matches" in error["message"] and other in error["message"]
    people.alice.cli("cancel", other)


def test_an_invitations_token_may_be_short(people: People) -> None:
    token = invited(people.bob, people.carol)["token"]
    shown = people.carol.cli("invitations")
    assert token[-8:] in shown and token not in shown
    assert people.carol.cli("decline-invitation", token[-8:-3], "--json").json["token"] == token


def test_a_token_of_nobody_is_a_404(people: People) -> None:
    assert people.carol.refused("decline-invitation", "ffff0000")["code"] == 404


@pytest.mark.parametrize("given", ["hello world", "https://broker.example/i/x", "dispatch:invitation:short", "zzzz"])
def test_what_is_no_invitation_is_refused_before_a_daemon_is_asked(given: str, people: People) -> None:
    dora: Person = people.dora
    error = dora.refused("accept-invitation", given, "--tools", "Read")
    assert error["code"] == 422 and error["fix"]
    assert dora.refused("accept-invitation", SOME, "--tools", "Read")["code"] == 503


def test_times_are_utc_in_json_and_local_for_people(done: Scene) -> None:
    document = done.people.alice.cli("status", done.short, "--json").json
    assert document["created"].endswith("Z")
    assert document["created"][:10] in done.people.alice.cli("status", done.short)


def test_nothing_received_reaches_the_terminal_as_control_characters(people: People) -> None:
    dispatch_id = people.sent("\x1b[2Jred\u202egnp.exe")
    for arguments in (["inbox"], ["status", dispatch_id]):
        assert "\x1b" not in people.bob.cli(*arguments) and "\u202e" not in people.bob.cli(*arguments)
    people.alice.cli("cancel", dispatch_id)
