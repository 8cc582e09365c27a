"""Who I am, and at which broker: sign-in, sign-out, `whoami`, and where the settings come from."""

from __future__ import annotations

import json
import re
import stat

import pytest

from tests.seed.conftest import People
from tests.system.world import Person, Program, World, eventually


@pytest.fixture(scope="module")
def gus(world: World) -> Person:
    """Somebody whose sign-in tests may change; their daemon has run, whichever test comes first."""
    person = world.person("gus")
    person.stop()
    return person


def test_login_opens_a_page_where_a_code_is_approved_and_saves_the_token(people: People) -> None:
    saved = json.loads(people.alice.state.config.read_bytes())
    assert saved["broker"] == people.world.broker.url and saved["email"] == people.alice.email and saved["token"]
    assert stat.S_IMODE(people.alice.state.config.stat().st_mode) == 0o600


def test_login_without_a_known_broker_says_to_name_or_host_one(people: People) -> None:
    stranger = Person("stranger", people.world.folder / "stranger-login", people.world.broker)
    error = stranger.refused("login", "--email", "stranger@example.org")
    assert error["code"] == 401 and "dispatch login --broker" in error["fix"] and "dispatch-rendezvous" in error["fix"]


def test_login_takes_no_token(gus: Person) -> None:
    assert "config set token" in gus.cli("login", "--token", "x", status=2).errors


def test_a_second_first_login_for_an_address_is_refused_and_names_what_exists(people: People) -> None:
    """There is no server that could merge two identities: the first root key of an address is the only one."""
    other = Person("twin", people.world.folder / "twin", people.world.broker)
    log = other.home / "login.errors"
    arguments = ["login", "--broker", people.world.broker.url, "--email", people.alice.email, "--no-browser", "--json"]
    program = Program("cli.main", arguments, other.environment, log)
    assert program.process.wait(60) == 1
    assert program.process.stdout is not None
    error = json.loads(program.process.stdout.read())["error"]
    program.process.stdout.close()
    assert error["code"] == 409 and "the device that signed in first" in error["fix"]
    assert other.refused("whoami")["code"] == 401, "nothing of it is kept"
    assert set(re.findall(r"dispatch [a-z-]+", error["fix"])) <= {"dispatch on"}


def test_whoami_says_who_where_and_what_runs_tasks(people: People) -> None:
    me = people.bob.cli("whoami", "--json").json
    assert (me["user_id"], me["broker"]) == (people.bob.email, people.world.broker.url)
    assert me["fingerprint"] and me["daemon"]["running"] and me["runtime"]["name"] and me["sandbox"]["tier"] == "full"


def test_whoami_works_before_the_daemons_first_start(people: People) -> None:
    me = people.dora.cli("whoami", "--json").json
    assert (me["user_id"], me["daemon"]) == (people.dora.email, {"running": False})


def test_whoami_shows_a_dead_broker_to_people_too(people: People, gus: Person) -> None:
    """The broker is another process that is not there, named in config.json."""
    gus.configure(broker="http://127.0.0.1:9")
    gus.start()
    try:
        error = eventually(lambda: gus.client.whoami()["broker_error"], what="the broker's absence")
        assert "whoami" not in error["fix"] and "config get broker" in error["fix"], "seen to fail: it named itself"
        said = gus.cli("whoami")
        assert "can't reach broker http://127.0.0.1:9" in said
        assert "fix:" in said.errors
    finally:
        gus.stop()
        gus.configure(broker=people.world.broker.url)


def test_without_a_token_every_broker_command_says_to_log_in(people: People) -> None:
    nobody = Person("nobody", people.world.folder / "nobody", people.world.broker)
    for arguments in (["invite", "a@example.org"], ["send", "a@example.org", "x"], ["inbox"], ["whoami"]):
        error = nobody.refused(*arguments)
        assert error["code"] == 401 and "no token" in error["message"] and "dispatch login --broker" in error["fix"]


def test_an_ended_sign_in_is_a_401_that_says_to_sign_in_again(gus: Person) -> None:
    """What a device asks of the broker is signed by its key, so the token counts for what it reads alone."""
    saved = json.loads(gus.state.config.read_bytes())["token"]
    gus.configure(token="x.y.z")
    gus.start()
    try:
        error = eventually(lambda: gus.client.whoami()["broker_error"], what="the broker's refusal")
        assert error["code"] == 401 and "dispatch login" in error["fix"]
        assert "not signed in: `dispatch login`" in gus.cli("whoami")
    finally:
        gus.stop()
        gus.configure(token=saved)


def test_settings_come_from_flags_then_variables_then_the_file(people: People, gus: Person) -> None:
    def broker(*flags: str, **variables: str) -> str:
        gus.environment |= variables
        try:
            return str(gus.cli("whoami", "--json", *flags).json["broker"])
        finally:
            for name in variables:
                del gus.environment[name]

    assert broker() == people.world.broker.url
    assert broker(DISPATCH_BROKER="https://variable.example") == "https://variable.example"
    flag = ("--broker", "https://flag.example/")
    assert broker(*flag, DISPATCH_BROKER="https://variable.example") == "https://flag.example"


def test_a_token_is_never_used_at_a_broker_that_did_not_issue_it(gus: Person) -> None:
    assert gus.cli("whoami", "--json", "--broker", "https://other.example").json["broker_signed_in"] is False
    assert gus.cli("whoami", "--json").json["broker_signed_in"] is True


def test_logout_refuses_to_end_another_sign_in_than_the_one_named(gus: Person) -> None:
    before = gus.state.config.read_bytes()
    for flags in (["--broker", "https://other.example"], ["--token", "another"]):
        assert gus.refused("logout", *flags)["code"] == 409
        assert gus.refused(*flags, "logout")["code"] == 409
    gus.environment["DISPATCH_BROKER"] = "https://other.example"
    try:
        assert gus.refused("logout")["code"] == 409
    finally:
        del gus.environment["DISPATCH_BROKER"]
    assert gus.state.config.read_bytes() == before


def test_logout_forgets_the_sign_in_and_keeps_the_keys(world: World) -> None:
    leaver = world.person("leaver", start=False)
    document = leaver.cli("logout", "--json").json
    assert document["signed_out"] and document["broker_told"]
    assert "token" not in json.loads(leaver.state.config.read_bytes())
    assert leaver.refused("logout")["code"] == 401
    leaver.sign_in()
    assert leaver.cli("whoami", "--json").json["broker_signed_in"]


def test_secrets_may_come_from_standard_input(gus: Person) -> None:
    saved = gus.cli("config", "get", "token", "--reveal").strip()
    gus.cli("config", "set", "token", "-", stdin="from-a-pipe\n")
    assert gus.cli("config", "get", "token", "--reveal").strip() == "from-a-pipe"
    gus.cli("config", "set", "token", "-", stdin=saved)


def test_the_daemon_writes_a_token_for_the_programs_of_this_machine(people: People) -> None:
    token = people.bob.state.local_token
    assert token.name == "local.token" and stat.S_IMODE(token.stat().st_mode) == 0o600
