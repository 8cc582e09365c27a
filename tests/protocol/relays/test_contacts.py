"""The list by which a relay knows its owner's contacts: what was written is read, and nothing but a whole list is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.machine.state_folder import StateFolder
from peer.protocol import names
from peer.protocol.errors import Invalid
from peer.protocol.relays import contacts
from peer.protocol.relays.admission import pseudonym

SECRET = contacts.secret_of(bytes(32))
IDS = [names.peer_id_text(names.peer_id_of(bytes([number]) * 32)) for number in range(20)]
LISTS = st.dictionaries(st.sampled_from(IDS), st.sampled_from(["a@example.org", "b@example.org", "c@example.org"]))


@given(LISTS)
def test_what_was_written_is_read_and_names_nobody(devices: dict[str, str]) -> None:
    raw = contacts.encode([(user, device) for device, user in devices.items()], secret=SECRET)
    assert b"example.org" not in raw
    assert contacts.decode(raw) == {device: pseudonym(SECRET, user) for device, user in devices.items()}


@given(LISTS, st.data())
def test_a_part_of_a_list_is_none(devices: dict[str, str], data: st.DataObject) -> None:
    raw = contacts.encode([(user, device) for device, user in devices.items()], secret=SECRET).rstrip()
    with pytest.raises(Invalid):
        contacts.decode(raw[: data.draw(st.integers(0, len(raw) - 1))])


USER = "A" * 22


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"version": 2, "users": {}},
        {"version": 1, "users": []},
        {"version": 1, "users": {USER: {}}},
        {"version": 1, "users": {"A": [IDS[0]]}},
        {"version": 1, "users": {USER: [7]}},
        {"version": 1, "users": {USER: [IDS[0] + " "]}},
        {"version": 1, "users": {USER: [IDS[0], IDS[0]]}},
        {"version": 1, "users": {USER: [IDS[0]], "B" * 21 + "A": [IDS[0]]}},
    ],
)
def test_what_is_no_list(document: object) -> None:
    with pytest.raises(Invalid):
        contacts.decode(json.dumps(document).encode())


def test_it_has_so_many_devices_and_is_so_large() -> None:
    def device(number: int) -> str:
        return names.peer_id_text(names.peer_id_of(number.to_bytes(32, "big")))

    everybody = [(f"{number}@example.org", device(number)) for number in range(contacts.MAX_DEVICES + 1)]
    raw = contacts.encode(everybody, secret=SECRET)
    assert len(raw) < contacts.MAX_BYTES and len(contacts.decode(raw)) == contacts.MAX_DEVICES
    document = json.loads(raw)
    document["users"]["A" * 22] = [everybody[-1][1]]
    for more in (json.dumps(document).encode(), raw + b" " * contacts.MAX_BYTES, b"[" * contacts.MAX_BYTES):
        with pytest.raises(Invalid):
            contacts.decode(more)


def test_relay_and_daemon_mean_the_same_file() -> None:
    assert StateFolder(Path("/state")).relay_contacts == Path("/state") / contacts.PLACE
