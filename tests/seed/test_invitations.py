"""How a trust edge comes to be: inviting, listing, accepting with a scope that a person chose, declining, blocking."""

from __future__ import annotations

import json

import pytest

from tests.seed.conftest import Host, People, invited
from tests.system.world import Document, Person, World, connected, eventually


@pytest.fixture(scope="module")
def strangers(world: World) -> tuple[Person, Person]:
    """Two who do not know each other; what one test grants another ends."""
    hugo, iris = world.people_named("hugo", "iris")
    return hugo, iris


def _lives(row: Document) -> bool:
    return row["status"] not in ("revoked", "expired")


def _revoked(asker: Person, granter: Person) -> None:
    """End the edge, and wait until the asker knows: until then a new invitation is refused."""
    granter.cli("trust", "revoke", asker.email)
    eventually(lambda: not any(map(_lives, asker.client.contacts()["trust"])), what="the revocation at the other side")


def test_inviting_grants_nothing_yet(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    for mine, other in ((hugo, iris), (iris, hugo)):
        assert not [row for row in mine.client.contacts()["trust"] if row["peer"] == other.email and _lives(row)]
    hugo.client.withdraw_invitation(token)


def test_without_mail_an_address_to_share_is_printed(strangers: tuple[Person, Person]) -> None:
    """It was to be called `dev_link`: here it is the same `link` with and without mail, and it proves both sides."""
    hugo, _ = strangers
    document = hugo.cli("invite", "shared@example.org", "--json").json
    assert document["emailed"] is False and document["link"].startswith("dispatch:invitation:")
    assert "dev_link" not in document
    hugo.cli("invitations", "withdraw", document["token"])


def test_inviting_twice_names_the_open_invitation(strangers: tuple[Person, Person]) -> None:
    hugo, _ = strangers
    first = hugo.cli("invite", "twice@example.org", "--json").json
    again = hugo.cli("invite", "twice@example.org", "--json").json
    assert (again["token"], again["existing"]) == (first["token"], True)
    assert "nothing changed" in hugo.cli("invite", "twice@example.org")
    hugo.cli("invitations", "withdraw", first["token"])


def test_inviting_someone_who_let_me_already_names_the_edge(people: People) -> None:
    error = people.alice.refused("invite", people.bob.email)
    assert error["code"] == 409 and people.bob.email in error["message"]


def test_nobody_invites_themselves(people: People) -> None:
    assert people.alice.refused("invite", people.alice.email)["code"] == 422


def test_invitations_shows_both_directions_with_token_and_fingerprint(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    (mine,) = hugo.cli("invitations", "--json").json["sent"]
    (theirs,) = iris.cli("invitations", "--json").json["received"]
    assert (mine["token"], mine["to"]) == (theirs["token"], iris.email) == (token, iris.email)
    assert theirs["from"] == hugo.email
    assert theirs["fingerprint"] == hugo.client.whoami()["fingerprint"]
    hugo.client.withdraw_invitation(token)


def test_invitations_lists_the_open_ones_alone(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    iris.cli("decline-invitation", token)
    eventually(lambda: token not in str(hugo.client.invitations()), what="her answer")
    for person in strangers:
        assert token not in person.cli("invitations", "--json")
    ended = {row["token"]: row["status"] for row in hugo.cli("invitations", "--all", "--json").json["sent"]}
    assert ended[token] == "declined"


def test_invitations_are_read_without_the_daemon(people: People) -> None:
    assert people.dora.cli("invitations", "--json").json == {"sent": [], "received": [], "more": False, "next": None}


def test_accepting_without_tools_shows_the_menu_and_grants_nothing(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    said = iris.cli("accept-invitation", token, status=2)
    assert f"{hugo.email} wants to be able to dispatch tasks to your machine" in said
    for option in ("Read-only", "Write", "Bash", "Custom", "Decline"):
        assert option in said
    assert not any(map(_lives, iris.client.contacts()["trust"]))
    hugo.client.withdraw_invitation(token)


def test_accepting_without_tools_in_json_carries_the_menu_and_the_fix(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    document = iris.cli("accept-invitation", token, "--json", status=2).json
    assert document["status"] == "scope_choice_required" and "--tools" in document["error"]["fix"]
    assert [item["number"] for item in document["menu"]] == [1, 2, 3, 4, 5]
    hugo.client.withdraw_invitation(token)


def test_accepting_creates_the_edge_with_the_least_of_what_was_not_said(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    document = iris.cli("accept-invitation", token, "--tools", "Read,Glob,Grep", "--json").json
    scope = document["scopes"]
    assert (scope["tools"], scope["mcp_servers"], scope["paths"]) == (["Read", "Glob", "Grep"], [], [])
    assert (scope["approval"], scope["max_per_day"]) == ("manual", 50)
    edge = connected(hugo, iris)
    assert (edge["direction"], edge["from_user"], edge["to_user"]) == ("outgoing", hugo.email, iris.email)
    assert iris.edge(hugo, "outgoing") is None, "an edge has one direction"
    _revoked(hugo, iris)


def test_every_part_of_the_scope_can_be_set(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    flags = ["--tools", "Read", "--paths", str(iris.projects), "--approval", "manual", "--max-per-day", "3"]
    flags += ["--mcp-servers", "none", "--expires", "30d", "--results", "redacted"]
    scope = iris.cli("accept-invitation", token, *flags, "--json").json["scopes"]
    assert (scope["paths"], scope["max_per_day"], scope["results"]) == ([str(iris.projects)], 3, "redacted")
    assert connected(hugo, iris)["scopes"]["expires"]
    _revoked(hugo, iris)


def test_power_for_an_unverified_key_shows_the_fingerprint_and_asks_once_more(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    for power in (["--tools", "Bash"], ["--tools", "Read", "--approval", "auto"]):
        error = iris.refused("accept-invitation", token, *power)
        assert error["code"] == 403 and "--yes-unverified" in error["fix"]
        assert hugo.client.whoami()["fingerprint"] in error["message"]
    assert not any(map(_lives, iris.client.contacts()["trust"]))
    hugo.client.withdraw_invitation(token)


def test_the_shared_address_verifies_both_sides_at_once(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    link = invited(hugo, iris)["link"]
    assert iris.cli("accept-invitation", "-", "--tools", "Read,Bash", "--json", stdin=link + "\n").json["verified"]
    assert connected(hugo, iris)["verified"]
    _revoked(hugo, iris)


def test_declining_creates_no_edge_and_the_inviter_hears(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    assert iris.cli("decline-invitation", token, "--json").json["status"] == "declined"
    eventually(lambda: token not in str(hugo.client.invitations()), what="her answer")


def test_an_invitation_is_answered_once(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    iris.cli("decline-invitation", token)
    assert iris.refused("accept-invitation", token, "--tools", "Read")["code"] in (409, 410)
    # Until he has her answer, another invitation of his is the same one.
    eventually(lambda: token not in str(hugo.client.invitations()), what="her answer")


def test_an_unknown_invitation_is_a_404(people: People) -> None:
    some = "0192f0c1-7a3b-7c44-9d2e-5b6a7c8d9e0f"
    assert people.carol.refused("accept-invitation", some, "--tools", "Read")["code"] == 404


def test_sending_while_the_invitation_is_open_says_to_wait(strangers: tuple[Person, Person]) -> None:
    hugo, iris = strangers
    token = invited(hugo, iris)["token"]
    error = hugo.refused("send", iris.email, "Already?")
    assert error["code"] == 403 and "has not answered" in error["message"]
    assert "wait" in error["fix"] and "invite them" not in error["fix"]
    hugo.client.withdraw_invitation(token)


def test_block_ends_the_edge_and_refuses_invitations_until_unblock(world: World) -> None:
    jane, kurt = world.people_named("jane", "kurt")
    kurt.client.accept_invitation(invited(jane, kurt)["link"], {"tools": "Read"})
    connected(jane, kurt)
    kurt.cli("alias", jane.email, "Janie")
    assert kurt.cli("block", "janie", "--json").json == {"status": "blocked", "peer": jane.email}
    assert kurt.cli("contacts", "--json").json["blocked"] == [jane.email]
    assert f"blocked: {jane.email}" in kurt.cli("contacts")
    eventually(lambda: (jane.edge(kurt, "outgoing") or {})["status"] == "revoked", what="the revocation")
    error = kurt.refused("invite", jane.email)
    assert error["code"] == 403 and f"dispatch unblock {jane.email}" in error["fix"]
    assert kurt.cli("unblock", "janie", "--json").json == {"status": "unblocked", "peer": jane.email}
    assert kurt.refused("unblock", jane.email)["code"] == 404
    assert kurt.cli("contacts", "--json").json["blocked"] == []
    invited(jane, kurt)


def test_the_session_lists_and_answers_invitations(strangers: tuple[Person, Person], people: People) -> None:
    """The same by the tools of an agent's session; accepting needs the person, see test_mcp_tools.py."""
    from tests.mcp_plugin.hosts import raw

    hugo, iris = strangers
    with raw(hugo) as asking, raw(iris) as answering:
        asker, answerer = Host(asking), Host(answering)
        sent = asker.ok("dispatch_invite", action="send", to_email=iris.email)
        eventually(lambda: answerer.ok("dispatch_invite", action="list")["received"], what="the invitation")
        assert answerer.ok("dispatch_invite", action="decline", token=sent["token"])["status"] == "declined"
        eventually(lambda: sent["token"] not in str(asker.ok("dispatch_invite", action="list")), what="her answer")


def test_the_broker_keeps_no_scope(people: People) -> None:
    """What somebody may do here is in the recipient's store alone."""
    kept = b"".join(path.read_bytes() for path in people.world.broker.folder.rglob("*.db*"))
    assert b"max_per_day" not in kept and b"Grep" not in kept
    assert json.dumps(people.bob.client.trust(people.alice.email)["scopes"])
