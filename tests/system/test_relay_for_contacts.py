"""A relay that serves its owner's contacts: the real program beside the real daemon of whoever runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import trio

from peer.machine import identity
from peer.protocol.relays.messages import Ticket
from tests.conftest import HANG
from tests.rendezvous.relay.world import Keys, Running, proof
from tests.system.world import Person, eventually

TAG = b"t" * 16
NO_RELAY_OBJECT = cast(Any, None)


@contextmanager
def relay_of(person: Person) -> Iterator[Running]:
    """`dispatch-relay serve --allow contacts` where this person's daemon runs."""
    command = [sys.executable, "-m", "rendezvous.relay.main", "serve", "--allow", "contacts", "--port", "0"]
    errors = person.home / "relay.errors"
    with (
        errors.open("wb") as log,
        subprocess.Popen(command, env=person.environment, stdout=subprocess.PIPE, stderr=log, text=True) as program,
    ):
        try:
            assert program.stdout is not None
            port = int(program.stdout.readline().rpartition(":")[2])
            yield Running(port, NO_RELAY_OBJECT)
            program.send_signal(signal.SIGTERM)
            assert program.wait(HANG) == 0, errors.read_text()
        finally:
            program.kill()


def device_of(person: Person) -> Keys:
    return Keys(identity.load(person.state).seed)


async def test_a_contact_is_joined_a_stranger_is_not_and_a_blocked_one_is_ended(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    listed = alice.state.relay_contacts
    assert listed.stat().st_mode & 0o777 == 0o600 and b"@" not in listed.read_bytes()
    hers, his = device_of(alice), device_of(bob)
    with relay_of(alice) as relay:
        async with relay.control(hers, b"") as caller, relay.control(his, b"") as callee:
            await callee.listen(TAG)
            async with relay.joined(caller, callee, TAG) as (near, far):
                sent = os.urandom(100_000)
                await near.socket.send_message(sent)
                assert await far.socket.get_message() == sent
                async with relay.challenged() as (stranger, challenge):
                    await stranger.send(proof(Keys(), challenge, b""))
                    assert (await stranger.closed())[0] == 4403
                await trio.to_thread.run_sync(alice.client.block, bob.email)
                assert (await callee.closed())[0] == 4403 == (await far.closed())[0]
                assert (await near.closed())[0] == 1000
            assert isinstance(await caller.ring(7, TAG), Ticket), "her own device is served all along"
        async with relay.challenged() as (blocked, challenge):
            await blocked.send(proof(his, challenge, b""))
            assert (await blocked.closed())[0] == 4403
    alice.client.unblock(bob.email)
    eventually(lambda: his.device.encode() in listed.read_bytes(), what="Bob on the list again")


def test_a_list_that_cannot_be_kept_is_removed_and_doctor_says_so(pair: tuple[Person, Person]) -> None:
    alice, _ = pair
    alice.stop()
    listed = alice.state.relay_contacts
    before = listed.read_bytes()
    listed.write_bytes(b"{}")
    alice.start()
    eventually(lambda: listed.read_bytes() == before, what="the list as it was")
    alice.stop()
    listed.unlink()
    listed.mkdir()
    alice.start()
    try:
        checks = {check["name"]: check for check in alice.cli("doctor", "--json", status=1).json["checks"]}
        assert "admits none of your contacts" in checks["contacts for a relay"]["detail"]
        assert checks["contacts for a relay"]["fix"]
    finally:
        alice.stop()
        listed.rmdir()
