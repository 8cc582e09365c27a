"""What a relay decides, without sockets and with a clock of the test's own."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from peer.protocol.codec import Malformed
from peer.protocol.errors import DispatchError, Forbidden, Invalid, RateLimited, Unauthorized, Unavailable
from rendezvous.relay.admission import Admission, admission_of
from rendezvous.relay.frames import FrameCounter
from rendezvous.relay.handshakes import Handshake, Handshakes
from rendezvous.relay.limits import RelayLimits
from rendezvous.relay.registry import CALLEE, CALLER, DailyBytes, Device, Pipe, Registry
from tests.rendezvous.relay.world import SECRET, Broker, Keys

SMALL = RelayLimits(
    devices=4,
    devices_per_user=2,
    tags=5,
    tags_per_device=3,
    pipes=6,
    pipes_per_user=4,
    pipes_per_device=3,
    pending_per_device=2,
    incoming_per_device=2,
    ring_burst=1000,
    rings_per_minute=1000,
    ring_burst_at_tag=1000,
    buckets=8,
    users_remembered=3,
)
TAGS = [bytes([n]) * 16 for n in range(7)]
DEVICES = [f"device {n}" for n in range(6)]


def registry(limits: RelayLimits = SMALL) -> Registry[str, str]:
    counter = itertools.count()
    return Registry(limits, random=lambda size: next(counter).to_bytes(size, "big"))


class Registries(RuleBasedStateMachine):
    """Any order of what devices do: no bound is passed, no ticket serves twice, and in the end nothing is left."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = registry()
        self.now = 0
        self.numbers = itertools.count()
        self.connected: dict[str, tuple[Device[str], str]] = {}
        self.tickets: list[bytes] = []
        self.used: set[bytes] = set()
        self.ends: list[tuple[Pipe[str, str], int]] = []

    @rule(name=st.sampled_from(DEVICES), user=st.sampled_from([b"1", b"2", b"3"]))
    def connect(self, name: str, user: bytes) -> None:
        control = f"control {next(self.numbers)}"
        before = self.connected.get(name)
        try:
            device, older = self.registry.connect(name, user, until=None, control=control)
        except DispatchError as error:
            assert error.code in (429, 503)
            return
        assert older == (before[1] if before else None)
        assert not device.tags
        self.connected[name] = device, control

    @precondition(lambda self: self.connected)
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.connected)))
        device, control = self.connected.pop(name)
        self.registry.disconnect(device, "an older one")
        assert device.control == control
        self.registry.disconnect(device, control)
        assert device not in self.registry._listening.values()

    @precondition(lambda self: self.connected)
    @rule(data=st.data(), tags=st.lists(st.sampled_from(TAGS), max_size=4))
    def listen(self, data: st.DataObject, tags: list[bytes]) -> None:
        device, _ = self.connected[data.draw(st.sampled_from(sorted(self.connected)))]
        others = {tag for tag, held in self.registry._listening.items() if held is not device}
        try:
            self.registry.listen(device, tuple(tags))
        except RateLimited:
            return
        assert device.tags == set(tags) - others

    @precondition(lambda self: self.connected)
    @rule(data=st.data(), tag=st.sampled_from(TAGS))
    def ring(self, data: st.DataObject, tag: bytes) -> None:
        device, _ = self.connected[data.draw(st.sampled_from(sorted(self.connected)))]
        listener = self.registry._listening.get(tag)
        try:
            rung = self.registry.ring(device, tag, now=self.now, day=0)
        except DispatchError as error:
            assert error.code in (429, 503)
            return
        assert rung.callee is None or (listener is not None and rung.callee == listener.control)
        assert rung.ticket != rung.callee_ticket
        self.tickets.append(rung.ticket)
        if rung.callee is not None:
            self.tickets.append(rung.callee_ticket)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.tickets))
        found = self.registry.join(ticket, f"end {next(self.numbers)}", now=self.now)
        if found is None:
            return
        assert ticket not in self.used
        self.used.add(ticket)
        pipe, side = found
        assert self.now < pipe.deadline and pipe.tickets[side] == ticket
        assert pipe.joined == all(pipe.ends)
        self.ends.append(found)

    @precondition(lambda self: self.ends)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        pipe, side = self.ends.pop(data.draw(st.integers(0, len(self.ends) - 1)))
        other = pipe.ends[1 - side]
        left = self.registry.leave(pipe, side)
        assert left == (other if pipe.joined or side == CALLER else None)

    @rule(seconds=st.sampled_from([0.1, 3, 11]))
    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1000)
        self.registry.expire(self.now)
        assert all(pipe.deadline > self.now for pipe in self.registry._pending)

    @invariant()
    def within_bounds(self) -> None:
        inside, limits = self.registry, SMALL
        assert len(inside._devices) <= limits.devices and inside.tags <= limits.tags
        pipes = [*inside._pending, *inside._open]
        assert len(pipes) <= limits.pipes and len(inside._tickets) <= 2 * len(inside._pending)
        for device in inside._devices.values():
            assert (
                device.pipes == sum(device in (pipe.caller, pipe.callee) for pipe in pipes) <= limits.pipes_per_device
            )
            pending = [pipe for pipe in inside._pending if pipe.caller is device]
            incoming = [pipe for pipe in inside._pending if pipe.callee is device]
            assert device.pending == len(pending) <= limits.pending_per_device
            assert device.incoming == len(incoming) <= limits.incoming_per_device
            assert len(device.tags) <= limits.tags_per_device
            assert device.control is not None or not device.tags
        for user in inside._users.values():
            assert 0 < user.devices <= limits.devices_per_user and user.pipes <= limits.pipes_per_user
        assert len(inside._rings) <= limits.buckets and len(inside._rings_at_tag) <= limits.buckets

    def teardown(self) -> None:
        for device, control in self.connected.values():
            self.registry.disconnect(device, control)
        for pipe, side in self.ends:
            self.registry.leave(pipe, side)
        self.registry.expire(self.now + 60_000)
        assert self.registry.is_empty()


TestRegistries = Registries.TestCase


def test_pipes_between_two_devices_of_one_user_count_twice() -> None:
    """Seen to fail: the last one passed the bound."""
    inside = registry()
    one, _ = inside.connect("one", b"u", until=None, control="one's")
    two, _ = inside.connect("two", b"u", until=None, control="two's")
    inside.listen(two, (TAGS[0],))
    inside.ring(one, TAGS[0], now=0, day=0)
    inside.ring(two, TAGS[1], now=0, day=0)
    assert inside.ring(one, TAGS[0], now=0, day=0).callee is None
    assert one.user.pipes == SMALL.pipes_per_user


def two_devices(inside: Registry[str, str]) -> tuple[Device[str], Device[str]]:
    caller, _ = inside.connect("caller", b"a", until=None, control="caller's")
    callee, _ = inside.connect("callee", b"b", until=None, control="callee's")
    inside.listen(callee, (TAGS[0],))
    return caller, callee


def test_over_a_bound_of_the_callee_nobody_is_rung_and_the_caller_sees_nothing_of_it() -> None:
    inside = registry()
    caller, callee = two_devices(inside)
    other, _ = inside.connect("other", b"c", until=None, control="other's")
    rung = [inside.ring(each, TAGS[0], now=0, day=0).callee for each in (caller, caller, other)]
    assert rung == ["callee's", "callee's", None]
    assert callee.incoming == 2


def test_rings_at_one_tag_are_limited_without_a_word() -> None:
    inside = registry(RelayLimits(ring_burst_at_tag=2, rings_per_minute_at_tag=1))
    caller, _ = two_devices(inside)
    assert [inside.ring(caller, TAGS[0], now=0, day=0).callee for _ in range(3)] == ["callee's", "callee's", None]
    assert inside.ring(caller, TAGS[0], now=60_000, day=0).callee == "callee's"


def test_reconnecting_gives_no_new_rings() -> None:
    inside = registry(RelayLimits(ring_burst=1, rings_per_minute=1))
    device, _ = inside.connect("one", b"a", until=None, control="first")
    inside.ring(device, TAGS[0], now=0, day=0)
    inside.expire(60_000)
    inside.disconnect(device, "first")
    assert inside.is_empty()
    device, _ = inside.connect("one", b"a", until=None, control="second")
    with pytest.raises(RateLimited):
        inside.ring(device, TAGS[0], now=0, day=0)


def test_a_device_of_another_user_now_is_counted_there() -> None:
    inside = registry()
    caller, _ = two_devices(inside)
    found = inside.ring(caller, TAGS[0], now=0, day=0)
    joined = inside.join(found.ticket, "end", now=0)
    again, older = inside.connect("caller", b"other user", until=None, control="newer")
    assert older == "caller's" and again is not caller
    assert again.pipes == 0 and caller.user.pipes == 1
    inside.disconnect(caller, "caller's")
    assert joined is not None
    inside.leave(*joined)
    assert again.user.devices == 1 and b"a" not in inside._users


def test_bounds_of_users_and_devices_of_a_relay() -> None:
    inside = registry()
    for number in range(2):
        inside.connect(f"a{number}", b"a", until=None, control="c")
    with pytest.raises(RateLimited):
        inside.connect("a2", b"a", until=None, control="c")
    for number in range(2):
        inside.connect(f"b{number}", b"b", until=None, control="c")
    with pytest.raises(Unavailable):
        inside.connect("c", b"c", until=None, control="c")
    inside.connect("a0", b"a", until=None, control="newer")  # one that is there may come again


def test_a_callee_that_goes_ends_nothing_before_the_pipe_is_joined() -> None:
    inside = registry()
    caller, _ = two_devices(inside)
    rung = inside.ring(caller, TAGS[0], now=0, day=0)
    there = inside.join(rung.callee_ticket, "far", now=0)
    assert there is not None and there[1] == CALLEE
    assert inside.leave(*there) is None
    near = inside.join(rung.ticket, "near", now=9_999)
    assert near is not None and not near[0].joined and inside.pipes_pending == 1
    inside.expire(10_000)
    assert inside.pipes_pending == 0


@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.integers(0, 60), st.integers(0, 1)), max_size=40)
)
def test_bytes_of_a_day(counted: list[tuple[bytes, int, int]]) -> None:
    counter = DailyBytes(most=100, users=4)
    day, sums = 0, dict[bytes, int]()
    for user, size, later in counted:
        if later:
            day, sums = day + 1, {}
        sums[user] = sums.get(user, 0) + size
        assert counter.add(user, size, day) == (sums[user] <= 100)


def test_users_whose_bytes_are_remembered_are_bounded() -> None:
    counter = DailyBytes(most=100, users=4)
    for number in range(100):
        counter.add(str(number).encode(), 1, 0)
    assert len(counter) == 4


# --- handshakes


@given(st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=60))
def test_handshakes_are_bounded_and_the_newest_has_a_place(networks: list[str]) -> None:
    handshakes = Handshakes(total=8, per_network=3)
    ended: list[Handshake] = []
    for network in networks:
        one = Handshake(network, lambda: None)
        one.end = lambda one=one: ended.append(one)  # type: ignore[misc]
        handshakes.enter(one)
        under_way = list(handshakes._under_way)
        assert len(handshakes) <= 8 and not set(under_way) & set(ended)
        assert all(sum(each.network == n for each in under_way) <= 3 for n in "abcd")
        if network:
            assert one in under_way
    for one in list(handshakes._under_way):
        handshakes.leave(one)
        handshakes.leave(one)
    assert len(handshakes) == 0 and not handshakes._by_network


def test_what_a_proxy_tells_counts_from_then_on() -> None:
    handshakes = Handshakes(total=100, per_network=2)
    ended = []
    for number in range(3):
        one = Handshake("", lambda number=number: ended.append(number))  # type: ignore[misc]
        handshakes.enter(one)
        handshakes.learn(one, "a")
    assert ended == [0]


# --- frames


def frame(size: int, *, opcode: int = 2, final: bool = True, masked: bool = True) -> bytes:
    head = bytes([(0x80 if final else 0) | opcode])
    mask = 0x80 if masked else 0
    if size < 126:
        head += bytes([mask | size])
    elif size < 65536:
        head += bytes([mask | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + size.to_bytes(8, "big")
    return head + bytes(4 if masked else 0) + bytes(size)


@given(
    st.lists(st.builds(frame, st.sampled_from([0, 1, 125, 126, 65535, 65536]), masked=st.booleans()), max_size=8),
    st.lists(st.integers(1, 70_000), min_size=1, max_size=20),
    st.integers(1, 3),
)
def test_frames_are_counted_however_the_bytes_are_cut(frames: list[bytes], cuts: list[int], at_most: int) -> None:
    counter = FrameCounter(fragments=1)
    left, found, lengths = b"".join(frames), 0, itertools.cycle(cuts)
    while left:
        piece = left[: next(lengths)]
        size, begun = counter.take(piece, at_most)
        assert 0 < size <= len(piece) and begun <= at_most
        found, left = found + begun, left[size:]
    assert found == len(frames)


def test_a_message_has_so_many_fragments_and_control_frames_are_none() -> None:
    counter = FrameCounter(fragments=3)
    message = frame(0, final=False) + frame(5, opcode=9) * 10 + frame(0, opcode=0, final=False) + frame(0, opcode=0)
    counter.take(message * 5, 1000)
    with pytest.raises(Malformed):
        counter.take(frame(0, final=False) + frame(0, opcode=0, final=False) * 3, 1000)


# --- admission


def test_how_a_device_is_admitted() -> None:
    broker, keys = Broker(), Keys()
    both = Admission(frozenset({broker.public}), SECRET)
    one, two = both.admit("a", SECRET, 0), both.admit("b", SECRET, 0)
    assert one.user != two.user and one.seconds is None
    token = broker.token(keys.device)
    from rendezvous.relay.relay import wall_clock

    now = wall_clock()
    admitted = both.admit(keys.device, token, now)
    assert admitted.user == broker.public + b"u" * 16 and admitted.seconds is not None
    assert 3600 <= admitted.seconds <= 3600 + 300
    for_ever = both.admit(keys.device, broker.token(keys.device, lasts_ms=10**12), now)
    assert for_ever.seconds == 24 * 3600 + 300
    with pytest.raises(Unauthorized):
        Admission(secret=SECRET).admit(keys.device, token, now)
    with pytest.raises(Forbidden):
        both.admit(keys.device, Broker().token(keys.device), now)


KEY = "A" * 43


@pytest.mark.parametrize(
    ("allowed", "variables", "says"),
    [
        ((), {}, "no --allow"),
        (("contacts",), {}, "--allow contacts"),
        (("token=secret",), {}, "--allow token=secret"),
        (("token",), {}, "32 to 1024 bytes"),
        (("token",), {"DISPATCH_RELAY_TOKEN": "x" * 31}, "32 to 1024 bytes"),
        (("token",), {"DISPATCH_RELAY_TOKEN": "x" * 1025}, "32 to 1024 bytes"),
        (("broker=",), {}, "not a broker's relay key"),
        ((f"broker={KEY}=",), {}, "not a broker's relay key"),
        (("broker=" + "A" * 42,), {}, "not a broker's relay key"),
    ],
)
def test_what_allows_nobody(allowed: tuple[str, ...], variables: dict[str, str], says: str) -> None:
    with pytest.raises(Invalid, match=says) as refused:
        admission_of(allowed, variables)
    assert refused.value.fix


def test_what_the_owner_may_say() -> None:
    found = admission_of((f"broker={KEY}", "token", "broker=" + "B" * 42 + "A"), {"DISPATCH_RELAY_TOKEN": "x" * 32})
    assert len(found.brokers) == 2 and found.secret == b"x" * 32
