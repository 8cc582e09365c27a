"""Rings: only the two devices know their tags, and only they can ring each other, now, at this relay."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey

from peer.protocol import names
from peer.protocol.errors import Forbidden
from peer.protocol.relays import messages, rings

ALICE, BOB, EVE = (names.peer_id_text(names.peer_id_of(bytes([n]) * 32)) for n in (1, 2, 3))
KEYS = {device: bytes([n]) * 32 for device, n in ((ALICE, 4), (BOB, 5), (EVE, 6))}
NOW = 1_800_000_000_000


def public(device: str) -> bytes:
    return bytes(PrivateKey(KEYS[device]).public_key)


def line(
    caller: str = ALICE, callee: str = BOB, *, here: str = ALICE, origin: str = "https://relay.example"
) -> rings.Line:
    other = callee if here == caller else caller
    return rings.Line(rings.shared_key(KEYS[here], public(other)), origin, caller, callee)


def test_both_devices_have_the_same_line() -> None:
    assert line(here=ALICE) == line(here=BOB)


def test_tags_differ_by_direction_relay_and_device() -> None:
    lines = [line(), line(BOB, ALICE, here=BOB), line(origin="https://other.example"), line(EVE, BOB, here=EVE)]
    assert len({each.tag for each in lines}) == 4
    assert all(len(each.tag) == messages.TAG_BYTES for each in lines)


def test_a_ring_is_opened_by_the_other_end() -> None:
    first, second = line().seal(NOW), line().seal(NOW)
    assert line(here=BOB).open(first, NOW) != line(here=BOB).open(second, NOW)
    assert len(first) <= messages.MAX_RING


@given(st.integers(-2 * rings.WINDOW_MS, 2 * rings.WINDOW_MS))
def test_a_ring_is_of_now(off: int) -> None:
    sealed = line().seal(NOW + off)
    if abs(off) <= rings.WINDOW_MS:
        line(here=BOB).open(sealed, NOW)
    else:
        with pytest.raises(Forbidden):
            line(here=BOB).open(sealed, NOW)


def test_nobody_elses_ring_is_taken() -> None:
    good = line()
    for other in (
        line(EVE, BOB, here=EVE),
        replace(good, caller=BOB, callee=ALICE),
        replace(good, origin="https://other.example"),
    ):
        with pytest.raises(Forbidden):
            good.open(other.seal(NOW), NOW)


@given(st.binary(max_size=200))
def test_garbage_is_refused(sealed: bytes) -> None:
    with pytest.raises(Forbidden):
        line().open(sealed, NOW)
