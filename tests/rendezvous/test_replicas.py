"""Several brokers on one PostgreSQL database, as behind a load balancer: what one takes, the others answer.

Each is served as a process would serve it, with a storage of its own; that they share this process changes nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Literal

import pytest
import trio

from peer.broker.client import LoginToken
from peer.protocol.errors import Conflict, Unavailable
from rendezvous.storage.opening import open_storage
from tests.conftest import HANG
from tests.rendezvous.postgresql import Server
from tests.rendezvous.world import People, Person, Running, people_at, running_broker

Replicas = tuple[Running, Running]


class Balancer:
    """Takes connections at one address, and brings each to the broker that `to` names when it comes."""

    def __init__(self, listener: trio.SocketListener) -> None:
        self._listener = listener
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        self.ports: list[int] = []
        self.to = 0

    async def serve(self) -> None:
        await trio.serve_listeners(self._bring, [self._listener])

    async def _bring(self, came: trio.SocketStream) -> None:
        try:
            there = await trio.open_tcp_stream("127.0.0.1", self.ports[self.to])
        except OSError:
            await came.aclose()
            return
        async with there, trio.open_nursery() as nursery:
            for one, other in ((came, there), (there, came)):
                nursery.start_soon(self._carry, one, other, nursery.cancel_scope)

    async def _carry(self, one: trio.SocketStream, other: trio.SocketStream, both: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in one:
                await other.send_all(data)
        both.cancel()


@pytest.fixture
async def served(tmp_path: Path, postgresql: Server) -> AsyncIterator[tuple[Balancer, Replicas, People]]:
    url = postgresql.database()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    balancer = Balancer(listener)
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


async def test_a_sign_in_begun_at_one_is_finished_at_another(served: tuple[Balancer, Replicas, People]) -> None:
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


async def test_who_waits_at_one_hears_of_what_another_takes(served: tuple[Balancer, Replicas, People]) -> None:
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


async def test_of_two_answers_at_two_brokers_one_wins(served: tuple[Balancer, Replicas, People]) -> None:
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


async def test_one_that_stops_takes_nothing_along(served: tuple[Balancer, Replicas, People]) -> None:
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
