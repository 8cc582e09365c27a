"""A contact's daemon lists somebody else's device as its own: nobody believes it, and the two innocent go on."""

from __future__ import annotations

import dataclasses

import pytest

from peer.machine import identity
from peer.protocol.signing import open_as, sign_by_root
from peer.protocol.statements import Device, DeviceSet
from tests.conftest import more
from tests.system.world import ALL_TOOLS, Document, Person, World, eventually


def device_set(person: Person) -> DeviceSet:
    return open_as(DeviceSet, identity.load(person.state).device_set)[0]


@pytest.mark.parametrize("membership", [*more("its own"), "mine"])
def test_an_acceptance_that_lists_another_persons_device(
    pair: tuple[Person, Person], world: World, membership: str
) -> None:
    """`its own`: Bob's device as Bob's device-set lists it. `mine`: Bob's device with what Eve's device has signed.

    Seen to fail, for both, with a recipient that does not check memberships either.
    """
    alice, bob = pair
    eve = world.person("mimic", start=False)
    own, (theirs,) = device_set(eve), device_set(bob).devices
    listed = theirs if membership == "its own" else Device(theirs.device, *dataclasses.astuple(own.devices[0])[1:])
    forged = sign_by_root(dataclasses.replace(own, devices=(*own.devices, listed)), (eve.state.root_key).read_bytes())
    eve.state.write_private(eve.state.path / identity.DEVICE_SET, forged.raw)
    eve.launch(module="tests.hostile")
    eve.ready()
    invited = alice.client.invite(eve.email)
    eve.client.accept_invitation(invited["link"], {"tools": ALL_TOOLS, "approval": "manual"})

    def refused() -> list[Document]:
        return [
            line for line in alice.log() if line["event"] == "invitation.refused" and line["token"] == invited["token"]
        ]

    assert "membership" in eventually(refused, what="a refusal")[-1]["message"]
    assert alice.edge(eve, "outgoing") is None
    assert {device for (device,) in alice.rows("SELECT device FROM contact_devices WHERE user_id = ?", bob.email)} == {
        theirs.device
    }
    for sender, recipient in ((alice, bob), (bob, alice)):
        if sender.edge(recipient, "outgoing"):
            sender.state_of(sender.client.send(recipient.email, "Are you there?")["dispatch_id"], "pending")
    eve.stop()
