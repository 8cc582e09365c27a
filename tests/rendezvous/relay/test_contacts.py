"""A relay for its owner's contacts: who is on the list is served, and only as long as they are on a whole list."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import trio

from peer.protocol.relays import contacts as lists
from peer.protocol.relays.messages import Ticket
from rendezvous.relay import contacts
from rendezvous.relay.admission import Admission
from tests.rendezvous.relay.world import Broker, Client, Keys, Running, proof, running_relay

TAG = b"t" * 16
ALICE, BOB, CAROL = Keys(), Keys(), Keys()


class List:
    """The file that the owner's daemon keeps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write(ALICE, BOB)

    def write(self, *devices: Keys) -> None:
        users = [(f"{each.device}@example.org", each.device) for each in devices]
        self.replace(lists.encode(users, secret=b"s" * 32))

    def replace(self, content: bytes) -> None:
        new = self.path.with_name("new")
        new.write_bytes(content)
        new.chmod(0o600)
        new.replace(self.path)


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> List:
    monkeypatch.setattr(contacts, "LOOK_SECONDS", 0.01)
    return List(tmp_path / "contacts.json")


@asynccontextmanager
async def serving(listed: List, *, brokers: Sequence[bytes] = ()) -> AsyncIterator[Running]:
    admission = Admission(frozenset(brokers), contacts_file=str(listed.path))
    async with running_relay(admission=admission) as running, trio.open_nursery() as nursery:
        await nursery.start(contacts.keep, running.relay)
        yield running
        nursery.cancel_scope.cancel()


async def refused(relay: Running, keys: Keys, token: bytes = b"") -> int:
    async with relay.challenged() as (client, challenge):
        await client.send(proof(keys, challenge, token))
        return (await client.closed())[0]


async def served(client: Client) -> bool:
    return isinstance(await client.ring(5, b"n" * 16), Ticket)


async def test_contacts_are_served_and_nobody_else_whatever_they_bring(listed: List) -> None:
    async with serving(listed) as relay:
        async with relay.control(ALICE, b"") as alice, relay.control(BOB, Broker().token(BOB.device)) as bob:
            await bob.listen(TAG)
            async with relay.joined(alice, bob, TAG) as (near, far):
                await near.socket.send_message(b"bytes")
                assert await far.socket.get_message() == b"bytes"
            assert await refused(relay, CAROL) == 4403
            assert await refused(relay, CAROL, Broker().token(CAROL.device)) == 4403
        async with relay.challenged() as (client, challenge):
            await client.send(replace(proof(BOB, challenge, b""), device=ALICE.device))
            assert (await client.closed())[0] == 4401, "to be on the list is no proof"


async def test_who_is_removed_is_disconnected_with_their_pipes_and_nobody_else(listed: List) -> None:
    async with serving(listed) as relay:
        listed.write(ALICE, BOB, CAROL)
        await relay.until(lambda: len(relay.relay.admission.contacts) == 3)
        async with (
            relay.control(ALICE, b"") as alice,
            relay.control(BOB, b"") as bob,
            relay.control(CAROL, b"") as carol,
        ):
            await bob.listen(TAG)
            await carol.listen(b"c" * 16)
            early = await alice.ticket(TAG)
            waiting = await bob.incoming()
            async with (
                relay.joined(alice, bob, TAG) as (near, far),
                relay.joined(alice, carol, b"c" * 16) as (to_carol, carols),
                relay.pipe(early) as unjoined,
            ):
                listed.write(ALICE, CAROL)
                assert (await bob.closed())[0] == 4403 == (await far.closed())[0]
                assert (await near.closed())[0] == 1000, "the other end learns that it is over, as of any pipe"
                async with relay.pipe(waiting.ticket) as late:
                    assert (await late.closed())[0] == 4404, "a ticket from before"
                assert (await unjoined.closed())[0] in (4408, 4404), "whether it came before the change or after"
                await to_carol.socket.send_message(b"still there")
                assert await carols.socket.get_message() == b"still there"
                assert await served(alice) and await served(carol)
        assert await refused(relay, BOB) == 4403
        listed.write(ALICE, BOB)
        await relay.until(lambda: BOB.device in relay.relay.admission.contacts)
        async with relay.control(BOB, b"") as bob:
            assert await served(bob)


async def test_who_is_removed_and_has_a_token_is_served_by_that(listed: List) -> None:
    broker = Broker()
    async with serving(listed, brokers=[broker.public]) as relay:
        async with relay.control(BOB, broker.token(BOB.device)) as bob:
            listed.write(ALICE)
            assert (await bob.closed())[0] == 4403
        async with relay.control(BOB, broker.token(BOB.device)) as bob:
            listed.write()
            await relay.until(lambda: not relay.relay.admission.contacts)
            assert await served(bob)
        assert await refused(relay, CAROL) == 4401


def test_a_contacts_devices_count_together() -> None:
    user = ("carol@example.org", CAROL.device), ("carol@example.org", BOB.device)
    admission = Admission(contacts_file="/f", contacts=lists.decode(lists.encode(user, secret=b"s" * 32)))
    assert admission.admit(CAROL.device, b"", 0) == admission.admit(BOB.device, b"", 0)


@pytest.mark.parametrize("fault", ["missing", "damaged", "too large", "writable", "a folder", "a pipe", "another's"])
async def test_without_a_sound_list_nobody_is_served_and_it_is_said_once(
    listed: List, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if fault == "another's" and os.geteuid() != 0:
        pytest.skip("needs root")
    async with serving(listed) as relay, relay.control(ALICE, b"") as alice:
        before = listed.path.read_bytes()
        match fault:
            case "missing":
                listed.path.unlink()
            case "damaged":
                listed.replace(before[:-3])
            case "too large":
                listed.replace(before + b" " * lists.MAX_BYTES)
            case "writable":
                listed.path.chmod(0o620)
            case "a folder":
                listed.path.unlink()
                listed.path.mkdir()
            case "a pipe":
                listed.path.unlink()
                os.mkfifo(listed.path)
            case _:
                os.chown(listed.path, 12345, 12345)
        assert (await alice.closed())[0] == 4403
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{relay.port}") as http:
            assert (await http.get("/health")).status_code == 503
            await trio.sleep(5 * contacts.LOOK_SECONDS)
            # Behind its time, each is why: the relay may have looked between the two steps of a fault.
            said = [line[20:] for line in capsys.readouterr().out.splitlines() if "contacts.not_used" in line]
            assert said and len(said) == len(set(said)), said
            if listed.path.is_dir():
                listed.path.rmdir()
            listed.replace(before)
            await relay.until(lambda: not relay.relay.contacts_problem)
            assert (await http.get("/health")).status_code == 200
            assert "dispatch_relay_contacts 2" in (await http.get("/metrics")).text
        async with relay.control(ALICE, b"") as again:
            assert await served(again)
