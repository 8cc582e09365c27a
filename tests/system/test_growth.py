"""An earlier and a later version, each a real daemon, send to each other; an invitation's secret stays ours.

The later version is tests/newer.py: this one with more fields of a dispatch and one more type of statement.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from peer.protocol import base64url
from peer.protocol.errors import DispatchError
from peer.protocol.signing import open_as
from peer.protocol.statements import Hello
from peer.trust.invitation_address import Address, parse
from tests.system.world import Document, Person, World, connect, eventually

LATER = "tests.newer"


@pytest.fixture(scope="module")
def both(world: World) -> Iterator[tuple[Person, Person]]:
    """(nina, owen): Nina's daemon is the later version. Each may send to the other."""
    nina, owen = world.person("nina", start=False), world.person("owen", start=False)
    nina.launch(module=LATER)
    owen.launch()
    for person in (nina, owen):
        person.ready()
    connect(nina, owen)
    connect(owen, nina)
    yield nina, owen
    for person in (nina, owen):
        person.stop()


def send(sender: Person, recipient: Person, **newer: str) -> Document:
    meta = {f"newer.{name}": value for name, value in newer.items()}
    return sender.client.send(recipient.email, "Say hello", meta=meta)


def arrived(person: Person, dispatch_id: str) -> None:
    """Wait until a dispatch is in somebody's inbox."""
    query = "SELECT 1 FROM dispatches WHERE dispatch_id = ? AND state = 'pending'"
    eventually(lambda: person.rows(query, dispatch_id), what="the dispatch to arrive")


@pytest.mark.long
def test_the_later_ones_ignorable_field_works_and_is_counted(both: tuple[Person, Person]) -> None:
    nina, owen = both
    owen.will({"say": "hello"})
    dispatch_id = send(nina, owen, mood="cheerful")["dispatch_id"]
    arrived(owen, dispatch_id)
    assert owen.client.dispatch(dispatch_id)["unknown_fields"] == 1
    assert "1 field this version does not know" in owen.cli("status", dispatch_id)
    owen.client.accept(dispatch_id)
    assert nina.state_of(dispatch_id, "completed")["status"] == "completed"
    assert nina.client.dispatch(dispatch_id)["unseen_fields"] == ["mood"]
    owen.state_of(dispatch_id, "completed")
    receipt = owen.home / "receipt"
    owen.cli("receipt", dispatch_id, "--out", str(receipt))
    assert "not seen by the recipient, whose version did not know them: 201" in owen.cli("verify-receipt", str(receipt))
    assert owen.cli("verify-receipt", str(receipt), "--json").json["unseen_fields"] == ["201"]


def test_the_later_ones_critical_field_is_rejected_with_the_fix(both: tuple[Person, Person]) -> None:
    nina, owen = both
    dispatch_id = send(nina, owen, witness="carol@example.org")["dispatch_id"]
    row = nina.state_of(dispatch_id, "rejected")
    assert (row["code"], row["fix"]) == (415, f"ask {owen.email} to update dispatch, then send it again")
    assert "key 101" in row["message"]


def test_a_type_that_the_earlier_one_does_not_know_is_answered_and_the_stream_lives(
    both: tuple[Person, Person],
) -> None:
    nina, owen = both
    dispatch_id = send(nina, owen, ping="first")["dispatch_id"]
    arrived(owen, dispatch_id)
    eventually(lambda: nina.count("outbox") == 0, what="both statements to be answered")


def test_what_the_earlier_ones_hello_does_not_name_is_not_sent(both: tuple[Person, Person]) -> None:
    """An optional field is left out and named, one that matters refuses at the sender. After an update both go."""
    nina, owen = both
    heard(nina, owen, features=[])
    assert send(nina, owen, urgency="high")["left_out"] == ["urgency"]
    assert "left out, because their version of dispatch does not know it: urgency" in nina.cli(
        "send", owen.email, "Say hello", "--meta", "newer.urgency=high"
    )
    with pytest.raises(DispatchError, match="does not understand `no_network`") as refused:
        send(nina, owen, no_network="yes")
    assert refused.value.code == 409 and "update dispatch" in refused.value.fix

    owen.stop()
    owen.launch(module=LATER)
    owen.ready()
    heard(nina, owen, features=["no-network", "urgency"])
    sent = send(nina, owen, urgency="high", no_network="yes")
    assert "left_out" not in sent
    arrived(owen, sent["dispatch_id"])
    assert owen.client.dispatch(sent["dispatch_id"])["unknown_fields"] == 0
    owen.stop()
    owen.start()
    heard(nina, owen, features=[])


def heard(person: Person, other: Person, *, features: list[str]) -> None:
    """Wait until a person's daemon has heard this from another's."""

    def look() -> bool:
        found = person.rows("SELECT hello FROM contact_devices WHERE user_id = ?", other.email)
        return bool(found and found[0][0]) and list(open_as(Hello, found[0][0])[0].features) == features

    eventually(look, what=f"the hello of {other.name}")


def test_the_earlier_one_sends_to_the_later_one(both: tuple[Person, Person]) -> None:
    nina, owen = both
    nina.will({"say": "hello"})
    dispatch_id = send(owen, nina)["dispatch_id"]
    arrived(nina, dispatch_id)
    assert nina.client.dispatch(dispatch_id)["unknown_fields"] == 0
    nina.client.accept(dispatch_id)
    assert owen.state_of(dispatch_id, "completed")["status"] == "completed"


def test_no_part_of_an_invitations_secret_is_anywhere_that_a_browser_or_the_broker_sees(world: World) -> None:
    """What is shared is no web address, and no web address in anything that is shown holds a part of it. Seen to fail
    with the address of before, whose fragment the broker's page could read.
    """
    ina, jon = world.people_named("ina", "jon")
    said = ina.cli("invite", jon.email)
    document = ina.client.invitations()
    address = parse(ina.client.invite(jon.email)["link"])
    assert isinstance(address, Address)
    parts = [base64url.encode(raw) for raw in (address.secret, address.digest)]
    parts += [raw.hex() for raw in (address.secret, address.digest)]

    shown = "\n".join([said, json.dumps(document), ina.cli("invitations"), jon.cli("invitations")])
    links = re.findall(r"https?:[^\s\"'<>]+", shown)
    assert links == [] or all(part not in link for link in links for part in parts)
    assert parts[0] in shown, "the address itself is shown"

    broker = world.broker
    for path in ("/", "/i", "/login", f"/i/{address.token}", "/health", "/metrics"):
        try:
            with urllib.request.urlopen(broker.url + path) as answer:
                page = answer.read().decode()
        except urllib.error.HTTPError as error:
            page = error.read().decode()
        assert all(part not in page for part in parts)
    kept = b"".join(path.read_bytes() for path in broker.folder.rglob("*") if path.is_file())
    assert address.token.encode() in kept, "the broker knows the invitation"
    for secret in (address.secret, address.secret.hex().encode(), base64url.encode(address.secret).encode()):
        assert secret not in kept
    for person in (ina, jon):
        person.stop()
