"""What I granted to someone: seen, changed, paused, ended; names of my own for people."""

from __future__ import annotations

import pytest

from tests.seed.conftest import People, bash
from tests.system.world import Person, World, connect, connected, eventually


def test_contacts_shows_edges_both_ways_with_scope_and_presence(people: People) -> None:
    (mine,) = people.alice.cli("contacts", "--json").json["trust"]
    assert (mine["peer"], mine["direction"], mine["peer_online"]) == (people.bob.email, "outgoing", True)
    rows = people.bob.cli("contacts", "--json").json["trust"]
    (theirs,) = [row for row in rows if row["peer"] == people.alice.email]
    assert theirs["direction"] == "incoming" and "Bash" in theirs["scopes"]["tools"]
    assert (mine["can_edit_scopes"], theirs["can_edit_scopes"]) == (False, True), "the recipient owns the scope"


def test_contacts_is_read_without_the_daemon(people: People) -> None:
    assert people.dora.cli("contacts", "--json").json == {"trust": [], "blocked": [], "more": False, "next": None}


def test_edit_without_flags_shows_the_scope(people: People) -> None:
    shown = people.bob.cli("trust", "edit", people.alice.email, "--json").json
    assert shown == people.bob.cli("trust", "show", people.alice.email, "--json").json
    assert "manual" in people.bob.cli("trust", "show", people.alice.email)


def test_what_an_edit_leaves_out_keeps_its_value(people: People) -> None:
    before = people.bob.client.trust(people.alice.email)["scopes"]
    people.bob.cli("trust", "edit", people.alice.email, "--tools", "Read,Grep", "--max-per-day", "7")
    after = people.bob.client.trust(people.alice.email)["scopes"]
    assert (after["tools"], after["max_per_day"]) == (["Read", "Grep"], 7)
    rest = {name: value for name, value in after.items() if name not in ("tools", "max_per_day")}
    assert rest == {name: before[name] for name in rest}


def test_the_sender_sees_the_changed_scope(people: People) -> None:
    people.bob.cli("trust", "edit", people.alice.email, "--tools", "Read")

    def tools() -> bool:
        return bool(people.alice.edge(people.bob, "outgoing")["scopes"]["tools"] == ["Read"])  # type: ignore[index]  # there is an edge

    eventually(tools, what="the narrower scope at the sender")


@pytest.mark.parametrize("folder", ["/", "~", "~/state"])
def test_folders_that_would_bare_the_home_or_the_state_are_refused(folder: str, people: People) -> None:
    where = folder.replace("~", str(people.bob.home))
    error = people.bob.refused("trust", "edit", people.alice.email, "--paths", where)
    assert error["code"] == 422 and where.rstrip("/") in error["message"] + error["fix"] + "/"


def test_a_paused_edge_refuses_at_once_and_resumes(people: People) -> None:
    people.bob.cli("trust", "pause", people.alice.email)
    eventually(lambda: people.alice.edge(people.bob, "outgoing")["status"] == "paused")  # type: ignore[index]  # as above
    assert people.alice.refused("send", people.bob.email, "Now?")["code"] == 403
    people.bob.cli("trust", "resume", people.alice.email)
    connected(people.alice, people.bob)


def test_more_than_the_daily_rate_is_a_429(people: People) -> None:
    people.bob.client.edit_trust(people.alice.email, {"max_per_day": 1})
    for _ in range(2):
        last = people.alice.client.send(people.bob.email, "One a day")["dispatch_id"]
    row = people.alice.state_of(last, "rejected")
    assert row["code"] == 429 and row["fix"]


@pytest.fixture(scope="module")
def two(world: World) -> tuple[Person, Person]:
    lena, mike = world.people_named("lena", "mike")
    return lena, mike


def test_revoke_ends_the_edge_for_both(two: tuple[Person, Person]) -> None:
    lena, mike = two
    connect(lena, mike)
    assert mike.cli("trust", "revoke", lena.email, "--json").json["status"] == "revoked"
    eventually(lambda: (lena.edge(mike, "outgoing") or {})["status"] == "revoked", what="the revocation")
    error = lena.refused("send", mike.email, "Still?")
    assert error["code"] == 403 and f"dispatch invite {mike.email}" in error["fix"]


def test_revoke_ends_a_running_dispatch(two: tuple[Person, Person]) -> None:
    lena, mike = two
    connect(lena, mike)
    mike.will(bash("sleep 1000"), bash("id"))
    dispatch_id = lena.client.send(mike.email, "Long work")["dispatch_id"]
    lena.state_of(dispatch_id, "pending")
    mike.client.accept(dispatch_id)
    mike.client.approve(dispatch_id, mike.approval_of(dispatch_id)["request_id"])
    mike.cli("trust", "revoke", lena.email)
    assert lena.state_of(dispatch_id, "failed", "cancelled", "declined", "rejected")


def test_an_alias_names_a_contact_in_every_command_with_and_without_the_daemon(two: tuple[Person, Person]) -> None:
    lena, mike = two
    connect(lena, mike)
    assert lena.cli("alias", mike.email, " Mikey ", "--json").json == {"peer": mike.email, "alias": "Mikey"}
    mike.cli("alias", lena.email, "Lenchen")
    dispatch_id = lena.cli("send", "mikey", "By name", "--json").json["dispatch_id"]
    lena.state_of(dispatch_id, "pending")
    lena.cli("cancel", dispatch_id)
    for command in (["show"], ["edit", "--max-per-day", "9"], ["pause"], ["resume"]):
        mike.cli("trust", command[0], "LENCHEN", *command[1:])
    assert lena.refused("invite", "mikey")["code"] == 409, "the edge is there, by that name too"
    lena.cli("alias", "MIKEY", "--remove")
    assert lena.refused("send", "mikey", "And now?")["code"] == 404
    mike.stop()
    try:
        assert mike.cli("trust", "revoke", "lenchen", "--json").json["status"] == "revoked"
        error = mike.refused("trust", "revoke", "nobody")
        assert error["code"] == 404 and "nobody" in error["message"]
    finally:
        mike.start()
    eventually(lambda: (lena.edge(mike, "outgoing") or {})["status"] == "revoked", what="the revocation")


def test_lists_without_the_daemon_are_for_people(two: tuple[Person, Person]) -> None:
    lena, mike = two
    connect(lena, mike)
    mike.stop()
    try:
        said = mike.cli("contacts")
        assert "Read, Glob" in said and "('" not in said
    finally:
        mike.start()
