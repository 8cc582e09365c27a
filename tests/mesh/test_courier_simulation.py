"""The courier's machines against each other in virtual time, with everything going wrong that can, until it stops."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass

from hypothesis import given, note
from hypothesis import strategies as st

from peer.mesh.courier import wire
from peer.protocol.acknowledgements import Acknowledgement
from tests.conftest import few
from tests.mesh.courier_simulation import LIMITS, Device, Letter, Network, Sending, World
from tests.mesh.outbox_model import Queued

TROUBLE = 120.0
"""Seconds in which statements are sent and things go wrong; what goes wrong last lasts 90 s more at most."""
CALM = 3600.0
"""Seconds after that within which everything must have arrived and nothing be left to do."""
WINDOW = 10.0


def reconnect(network: Network, here: str, there: str) -> None:
    network.connect(here, there)


@dataclass(frozen=True)
class Send:
    """A statement is put into the outbox of one of the ways between two devices."""

    at: float
    way: int
    ordering: str
    priority: int
    size: int
    codes: tuple[int, ...]
    final: int


@dataclass(frozen=True)
class Trouble:
    """Something goes wrong on one of the ways; `much` in 0 … 1 is how long or how often."""

    at: float
    way: int
    what: str
    much: float


TROUBLES = [
    "stream breaks",
    "connection breaks",
    "network is cut",
    "sender restarts",
    "disk fails",
    "peer is silent",
    "machine is suspended",
    "greeted",
    "woken often",
    "renewed often",
    "connections come and go",
    "one is purged",
    "wrong acknowledgement",
    "unknown frames",
    "second hello",
]


def cause(trouble: Trouble, sending: Sending) -> None:
    world, network, much = sending.world, sending.network, trouble.much
    here, there = sending.device.name, sending.peer.name
    match trouble.what:
        case "stream breaks":
            sending.break_stream()
        case "connection breaks":
            network.drop(here, there)
        case "network is cut":
            network.cut(here, there, 90 * much)
        case "sender restarts":
            sending.restart()
        case "disk fails":
            sending.failing_until = world.now + 20 * much
        case "peer is silent":
            sending.peer.mute_until = world.now + 90 * much
        case "machine is suspended":
            world.jump(300 * much)
        case "greeted":
            sending.greet()
        case "woken often":
            for number in range(100):
                world.later(number * much / 10, sending.wake)
        case "renewed often":
            for number in range(100):
                world.later(number * much / 10, sending.renew)
        case "connections come and go":
            for number in range(20):
                world.later(number * much, lambda: network.drop(here, there))
                world.later((number + 0.5) * much, lambda: network.join(there, here))
        case "one is purged":
            if sending.queue:
                sending.purge(list(sending.queue)[int(much * (len(sending.queue) - 1))])
        case "wrong acknowledgement":
            sending.lie([wire.AcknowledgementFrame(999, Acknowledgement(200))])
        case "unknown frames":
            sending.lie([wire.UnknownFrame(9)] * int(100 * much))
        case "second hello":
            sending.lie([wire.HelloFrame(there.encode())])
        case _:
            raise AssertionError(trouble.what)


times = st.floats(0, TROUBLE)
sends = st.builds(
    Send,
    at=st.sampled_from([0.0, 5.0, 60.0]) | times,
    way=st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5]),
    ordering=st.sampled_from(["", "x", "y"]),
    priority=st.integers(0, 2),
    size=st.sampled_from([40, 40, 40, 200, 500, 1000, 1500]),
    codes=st.lists(st.sampled_from([503, 425, 500, 302]), max_size=3).map(tuple),
    final=st.sampled_from([200, 202, 403, 410, 429]),
)
troubles = st.builds(Trouble, at=times, way=st.integers(0, 5), what=st.sampled_from(TROUBLES), much=st.floats(0, 1))


@few(100)
@given(
    st.integers(2, 3), st.integers(0, 2**32), st.lists(sends, min_size=1, max_size=40), st.lists(troubles, max_size=12)
)
def test_nothing_is_lost_doubled_or_reordered_and_nobody_dials_in_a_circle(
    count: int, seed: int, sends: list[Send], troubles: list[Trouble]
) -> None:
    world = World(seed)
    network = Network(world)
    letters: dict[bytes, Letter] = {}
    for name in "abc"[:count]:
        network.devices[name] = Device(world, name)
        network.devices[name].letters = letters
    ways = []
    for here, there in itertools.permutations(network.devices.values(), 2):
        here.sendings[there.name] = Sending(network, here, there)
        ways.append(here.sendings[there.name])
    sent: list[tuple[Sending, Letter]] = []
    for n, send in enumerate(sorted(sends, key=lambda send: send.at), start=1):
        raw = (n.to_bytes(4, "big") + hashlib.sha256(bytes(n)).digest()).ljust(send.size, b".")
        letter = letters[raw] = Letter(Queued(n, send.priority, send.ordering, raw), send.codes, send.final)
        sending = ways[send.way % len(ways)]
        sent.append((sending, letter))
        world.later(send.at, lambda sending=sending, letter=letter: sending.put(letter.queued))  # type: ignore[misc]
    for trouble in troubles:
        world.later(trouble.at, lambda trouble=trouble: cause(trouble, ways[trouble.way % len(ways)]))  # type: ignore[misc]
    try:
        world.run(TROUBLE)
        world.run(world.now + CALM)
        for sending in ways:
            check_delivered(sending, [letter for way, letter in sent if way is sending])
            check_dials(sending)
        assert world.idle, "something is still done when there is nothing to do"
    except Exception:
        note("\n".join(world.log))
        raise


def check_delivered(sending: Sending, letters: list[Letter]) -> None:
    assert not sending.queue, "something was never acknowledged"
    for letter in letters:
        queued = letter.queued
        if queued.n not in sending.purged:
            assert sending.final[str(queued.n)] == sending.peer.seen[queued.raw]
            assert sending.final[str(queued.n)].code == letter.final
    for order in sending.settled.values():
        assert order == sorted(order), "acknowledged out of order"
    for ordering in ("x", "y"):
        order = sending.peer.arrived.get((sending.device.name, ordering), [])
        assert order == sorted(order), "arrived out of order"
    if sending.final:
        assert sending.peer.name in sending.device.hellos and sending.device.name in sending.peer.hellos


def check_dials(sending: Sending) -> None:
    """A dial follows a rest of 75 % of the first retry at least; or a peer that shows up, once in a first retry."""
    most = WINDOW / (0.75 * LIMITS.first_retry) + WINDOW / LIMITS.first_retry + 2 + sending.asked
    for start in sending.dials:
        assert sum(start <= dial <= start + WINDOW for dial in sending.dials) <= most, "it dials in a circle"
