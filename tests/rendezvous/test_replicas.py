"""Several brokers on one PostgreSQL database, as behind a load balancer: what one takes, the others answer.

Each is served as a process would serve it, with a storage of its own; that they share this process changes nothing.
"""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Literal

import psycopg
import pytest
import trio

from peer.broker.client import LoginToken
from peer.protocol.errors import Conflict, Unavailable
from rendezvous.storage.limits import StorageLimits
from rendezvous.storage.opening import open_storage
from tests.conftest import HANG
from tests.rendezvous.balancer import Balancer
from tests.rendezvous.postgresql import Server
from tests.rendezvous.test_main import PROGRAM, environment, process
from tests.rendezvous.world import People, Person, Running, people_at, running_broker

Replicas = tuple[Running, Running]


class Directed(Balancer):
    """Brings each connection to the broker that `to` names when it comes."""

    def __init__(self, listener: trio.SocketListener) -> None:
        super().__init__(listener, lambda: self.ports[self.to])
        self.ports: list[int] = []
        self.to = 0


@pytest.fixture
async def served(tmp_path: Path, postgresql: Server) -> AsyncIterator[tuple[Directed, Replicas, People]]:
    url = postgresql.database()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    balancer = Directed(listener)
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        nursery.start_soon(balancer.serve)
        replicas = []
        for number in (0, 1):
            replica = await stack.enter_async_context(
                running_broker(
                    tmp_path / f"broker {number}",
                    storage=open_storage(url, tmp_path),
                    public_url=balancer.url,
                )
            )
            balancer.ports.append(int(replica.url.rpartition(":")[2]))
            replicas.append(replica)
        outside = Running(balancer.url, replicas[0].clock, replicas[0].broker)
        people = await stack.enter_async_context(people_at(outside, tmp_path / "people"))
        yield balancer, (replicas[0], replicas[1]), people
        await stack.aclose()
        nursery.cancel_scope.cancel()


async def test_a_sign_in_begun_at_one_is_finished_at_another(served: tuple[Directed, Replicas, People]) -> None:
    """And its token is good at both."""
    balancer, _, people = served
    alice = await people.new("alice@example.org")
    prompt = await alice.client.login_device(alice.who.device_set)
    balancer.to = 1
    response = await alice.http.post(f"{balancer.url}/login", data={"user_code": prompt.user_code})
    assert response.status_code == 200, response.text
    token = await alice.client.login_token(prompt.device_code)
    assert isinstance(token, LoginToken)
    answered = await alice.http.get(
        f"{balancer.url}/v1/invitations", headers={"authorization": f"Bearer {token.access_token}"}
    )
    assert answered.status_code == 200, answered.text


async def test_who_waits_at_one_hears_of_what_another_takes(served: tuple[Directed, Replicas, People]) -> None:
    """Seen to wait for its time-out without a notice."""
    balancer, (first, _), people = served
    bob = await people.signed_in("bob@example.org")
    balancer.to = 1
    alice = await people.signed_in("alice@example.org")
    async with trio.open_nursery() as nursery:
        heard: list[str] = []

        async def wait() -> None:
            with trio.fail_after(HANG):
                changes = await bob.client.invitations(wait=25)
            heard.extend(each.inviter for each in changes.received)

        nursery.start_soon(wait)
        while not len(first.broker.changes):
            await trio.sleep(0.01)
        await alice.client.post_invitation(alice.signed_invitation("bob@example.org"))
    assert heard == ["alice@example.org"]


async def test_of_two_answers_at_two_brokers_one_wins(served: tuple[Directed, Replicas, People]) -> None:
    balancer, _, people = served
    alice = await people.signed_in("alice@example.org")
    here = await people.signed_in("bob@example.org")
    balancer.to = 1
    there = await people.new("bob@example.org", who=here.who)
    posted = await alice.client.post_invitation(alice.signed_invitation("bob@example.org"))
    refused: list[str] = []

    async def answer(bob: Person, kind: Literal["accepted", "declined"]) -> None:
        try:
            await bob.client.answer(posted.token, kind=kind, sealed={alice.who.device: kind.encode()})
        except Conflict as error:
            refused.append(error.message)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer, here, "accepted")
        nursery.start_soon(answer, there, "declined")
    assert len(refused) == 1 and "already answered" in refused[0]


async def test_one_that_stops_takes_nothing_along(served: tuple[Directed, Replicas, People]) -> None:
    """Who waits at it is woken, and asks the other."""
    balancer, (first, _), people = served
    bob = await people.signed_in("bob@example.org")
    async with trio.open_nursery() as nursery:

        async def wait() -> None:
            with trio.fail_after(HANG), suppress(Unavailable):  # it was woken, and there is nothing new
                await bob.client.invitations(wait=25)

        nursery.start_soon(wait)
        while not len(first.broker.changes):
            await trio.sleep(0.01)
        balancer.to = 1
        first.broker.changes.close()
    alice = await people.signed_in("alice@example.org")
    assert (await alice.client.post_invitation(alice.signed_invitation("bob@example.org"))).to == "bob@example.org"


async def test_a_database_that_is_away_is_503_and_everything_goes_on_when_it_is_back(
    tmp_path: Path, own: Server
) -> None:
    """A look-up, a write, a wait and /health; each names a time to try again."""
    url = own.database()
    async with (
        running_broker(tmp_path / "broker", storage=open_storage(url, tmp_path)) as broker,
        people_at(broker, tmp_path / "people") as people,
    ):
        alice = await people.signed_in("alice@example.org")
        own.stop("immediate")
        statement = alice.statement("presence.withdraw", {"seq": 1})
        for method, path, body, token in (
            ("GET", "/health", None, None),
            ("GET", "/v1/presence/bob@example.org", None, alice.client.token),
            ("GET", "/v1/invitations?wait=25", None, alice.client.token),
            ("DELETE", "/v1/presence", statement, None),
        ):
            refused = await alice.raw(method, path, body, token=token)
            assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0, path
            assert "can't reach its database" in refused.json()["detail"]
        assert (await alice.raw("GET", "/health/live")).status_code == 204
        own.start()
        with trio.fail_after(HANG):
            while (await alice.raw("GET", "/health")).status_code != 200:
                await trio.sleep(0.05)
        # The very same request: nothing had happened.
        assert (await alice.raw("DELETE", "/v1/presence", statement)).status_code == 204
        assert (await alice.client.invitations()).sent == []


async def test_readers_that_wait_hold_no_connection_of_the_database(
    served: tuple[Directed, Replicas, People], postgresql: Server
) -> None:
    """There are more of them than connections, and everything else goes on."""
    connections = StorageLimits().database_connections
    balancer, (first, _), people = served
    bob, carol = await people.signed_in("bob@example.org"), await people.signed_in("carol@example.org")
    async with trio.open_nursery() as nursery:
        for person in (bob, carol):
            for _ in range(connections):
                reader = await people.new(person.who.user_id, who=person.who)
                reader.client.token = person.client.token
                nursery.start_soon(partial(reader.client.invitations, wait=25))
        with trio.fail_after(HANG):
            while len(first.broker.changes) < 2 * connections:
                await trio.sleep(0.02)
            balancer.to = 0
            alice = await people.signed_in("alice@example.org")
            for person in (bob, carol):
                await alice.client.post_invitation(alice.signed_invitation(person.who.user_id))


def test_a_broker_whose_database_is_away_or_newer_does_not_start(tmp_path: Path, own: Server) -> None:
    """It says why in a sentence, and so does doctor; what is there is not touched."""
    url = own.database()
    with process(tmp_path / "first", "--dev", "--port", "0", DATABASE_URL=url):
        pass
    with psycopg.connect(url) as admin:
        admin.execute("UPDATE schema_version SET version = 999")
    refused = ended("serve", tmp_path / "second", url)
    assert "was written by a newer dispatch-rendezvous (schema 999" in refused.stderr and "update" in refused.stderr
    assert "tables of version 999" in ended("doctor", tmp_path / "second", url).stdout
    own.stop()
    refused = ended("serve", tmp_path / "second", url)
    assert "the broker can't reach its database" in refused.stderr
    looked = ended("doctor", tmp_path / "second", url)
    assert "broken  database: the broker can't reach its database" in looked.stdout
    for each in (refused, looked):
        assert "Traceback" not in each.stderr
        assert "fix:" in each.stderr + each.stdout


def ended(command: str, data: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Run the program until it ends, which it does without success."""
    done = subprocess.run(
        [*PROGRAM, command, "--data", str(data), "--dev", "--port", "0"],
        capture_output=True,
        text=True,
        env=environment(DATABASE_URL=url),
        timeout=HANG,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done
