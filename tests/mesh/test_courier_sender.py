"""Conversations with the machine that sends to one peer: what it asks for after each event, at made-up times."""

from __future__ import annotations

import pytest

from peer.mesh.courier import CourierLimits, wire
from peer.mesh.courier.events import (
    Connected,
    DeliverHello,
    Dial,
    Fetched,
    FetchFailed,
    FetchNext,
    FrameReceived,
    FrameSent,
    GreetingAsked,
    OpenStream,
    OutboxItem,
    PeerConnected,
    Renewed,
    ResetStream,
    SenderCommand,
    SenderEvent,
    SendFrame,
    SetTimer,
    Stored,
    StoreFailed,
    StoreFinal,
    StoreRetry,
    StreamEnded,
    StreamOpened,
    TimerFired,
    Unreachable,
    Woken,
)
from peer.mesh.courier.sender import LINK, Link, PeerSender, Step
from peer.mesh.courier.wire import AcknowledgementFrame, HelloFrame, StatementFrame, UnknownFrame
from peer.protocol.acknowledgements import Acknowledgement
from peer.protocol.errors import Internal

OK, BUSY = Acknowledgement(200), Acknowledgement(503)
NEVER = float("inf")
START = 100.0


def item(key: str, ordering: str | None = None, size: int = 10) -> OutboxItem:
    return OutboxItem(key, ordering, bytes(size))


def fetch(*keys: str, orderings: tuple[str, ...] = ()) -> FetchNext:
    return FetchNext(frozenset(keys), frozenset(orderings))


class Talk:
    """A machine and the time. Jitter is in the middle, so that waits are exactly 1, 1.5, 2.25 … seconds."""

    def __init__(self, limits: CourierLimits | None = None, *, says_hello: bool = False) -> None:
        self.machine = PeerSender(limits or CourierLimits(), says_hello=says_hello)
        self.now = START
        self.timer = NEVER

    def tell(self, *told: SenderEvent) -> list[SenderCommand]:
        """Report events; return what the last of them led to."""
        commands: list[SenderCommand] = []
        for event in told:
            commands = self.machine.handle(event, now=self.now, jitter=0.5)
            for command in commands:
                if isinstance(command, SetTimer):
                    self.timer = command.at
        return commands

    def until_timer(self) -> list[SenderCommand]:
        """Let the timer fire until it does something; a timer may be earlier than need be, but not again and again."""
        commands: list[SenderCommand] = []
        for _ in range(5):
            if self.timer == NEVER or not all(isinstance(command, SetTimer) for command in commands):
                return commands
            self.now, self.timer = self.timer, NEVER
            commands = self.tell(TimerFired())
        raise AssertionError("a timer that fires for nothing")

    def up(self, stream: int = 1, hello: bytes = b"") -> None:
        """Have a stream opened; the fetch that follows is under way."""
        if self.machine.link is Link.DOWN and stream == 1:
            self.tell(Woken())
        self.tell(Fetched(item("any")), Connected(), StreamOpened(stream, hello))
        if hello:
            self.tell(FrameSent(stream))

    def send(self, sent: OutboxItem) -> int:
        """Have an item fetched and written; the fetch that follows is under way. Return its seq."""
        command = self.tell(Fetched(sent))[0]
        assert isinstance(command, SendFrame) and isinstance(command.frame, StatementFrame)
        self.tell(FrameSent(command.stream))
        return command.frame.seq

    def hear(self, frame: wire.Frame, stream: int = 1) -> list[SenderCommand]:
        return self.tell(FrameReceived(stream, frame))

    def acknowledge(self, seq: int, reply: Acknowledgement, stream: int = 1) -> list[SenderCommand]:
        return self.hear(AcknowledgementFrame(seq, reply), stream)

    def fail_dials(self, count: int) -> None:
        """Fail so many dials in a row, the last rest still to come. Begins where a fetch is under way."""
        for number in range(count):
            self.tell(Fetched(item("any")), Unreachable())
            if number < count - 1:
                self.until_timer()


# --- a life


def test_a_statement_from_the_outbox_to_its_record() -> None:
    talk = Talk()
    assert talk.tell(Woken()) == [fetch()]
    assert talk.tell(Fetched(item("1", "d"))) == [Dial()]
    assert talk.tell(Connected()) == [OpenStream(1)]
    assert talk.tell(StreamOpened(1)) == [fetch()]
    assert talk.tell(Fetched(item("1", "d"))) == [SendFrame(1, StatementFrame(0, bytes(10)))]
    assert talk.tell(FrameSent(1)) == [fetch("1", orderings=("d",)), SetTimer(START + 30)]
    assert talk.tell(Fetched(None)) == []
    assert talk.acknowledge(0, OK) == [StoreFinal("1", OK)]
    assert talk.tell(Stored("1")) == [fetch()]
    assert talk.tell(Fetched(None)) == []
    assert talk.machine.link is Link.UP


def test_with_nothing_waiting_nothing_is_done() -> None:
    talk = Talk()
    talk.tell(Woken())
    assert talk.tell(Fetched(None)) == []
    assert talk.machine.link is Link.DOWN


def test_news_during_a_fetch_lead_to_one_more() -> None:
    talk = Talk()
    assert talk.tell(Woken()) == [fetch()]
    assert talk.tell(Woken()) == talk.tell(Woken()) == []
    assert talk.tell(Fetched(None)) == [fetch()]
    assert talk.tell(Fetched(None)) == []


def test_what_was_in_flight_goes_again_on_the_next_stream_counted_anew() -> None:
    talk = Talk()
    talk.up()
    assert [talk.send(item("1")), talk.send(item("2"))] == [0, 1]
    assert talk.machine.in_flight == ["1", "2"]
    talk.tell(Fetched(None))
    assert talk.tell(StreamEnded(1, "gone")) == [SetTimer(START + 1)]
    assert talk.until_timer() == [fetch()]
    talk.up(stream=2)
    assert talk.send(item("1")) == 0


def test_a_stream_that_ends_while_a_frame_is_written_leaves_nothing_behind() -> None:
    talk = Talk()
    talk.up()
    talk.tell(Fetched(item("1")), StreamEnded(1, "gone"))
    talk.until_timer()
    talk.tell(Fetched(item("1")), Connected())
    assert talk.tell(StreamOpened(2)) == [fetch()]


def test_an_item_found_while_resting_is_looked_for_again() -> None:
    """It may have been purged meanwhile."""
    talk = Talk()
    talk.up()
    talk.tell(StreamEnded(1, "gone"))
    assert talk.tell(Fetched(item("1"))) == []
    assert talk.until_timer() == [fetch()]


# --- an outbox that has no more


def test_nothing_is_fetched_where_the_last_fetch_left_nothing_behind() -> None:
    """Each statement led to three fetches, two of which found nothing."""
    talk = Talk()
    talk.up()
    talk.tell(Fetched(item("1", "d"), more=False))
    assert talk.tell(FrameSent(1)) == [SetTimer(START + 30)]
    talk.acknowledge(0, OK)
    assert talk.tell(Stored("1")) == []
    assert talk.tell(Woken()) == [fetch()]


def test_what_an_ordering_key_holds_back_is_fetched_after_the_one_before() -> None:
    talk = Talk()
    talk.up()
    talk.tell(Fetched(item("1", "d"), more=True))
    assert talk.tell(FrameSent(1))[0] == fetch("1", orderings=("d",))
    talk.tell(Fetched(None, more=True))
    talk.acknowledge(0, OK)
    assert talk.tell(Stored("1")) == [fetch()]


def test_what_a_fetch_under_way_could_not_see_is_fetched_after_it() -> None:
    """Seen to fail without `_fetching` in it: what came of this ordering key meanwhile waited for ever."""
    talk = Talk()
    talk.up()
    talk.tell(Fetched(item("1", "d"), more=False), FrameSent(1))
    assert talk.tell(Woken()) == [fetch("1", orderings=("d",))]
    talk.acknowledge(0, OK)
    assert talk.tell(Stored("1")) == []
    assert talk.tell(Fetched(None, more=True)) == [fetch()]


def test_a_retry_that_comes_due_while_it_is_stored_is_fetched_then() -> None:
    talk = Talk()
    talk.up()
    talk.tell(Fetched(item("1"), more=False), FrameSent(1))
    talk.acknowledge(0, BUSY)
    assert talk.until_timer() == [fetch("1")]
    assert talk.tell(Fetched(None, more=False)) == []
    assert talk.tell(Stored("1"))[0] == fetch()


def test_an_item_too_large_for_now_is_fetched_again_though_it_is_the_last_one() -> None:
    talk = Talk()
    talk.up()
    talk.send(item("1", size=1024 * 1024 - 10))
    assert talk.tell(Fetched(item("2", size=11), more=False)) == []
    talk.acknowledge(0, OK)
    assert talk.tell(Stored("1")) == [fetch()]


# --- the link


def test_every_state_of_the_link_has_a_way_on() -> None:
    assert set(LINK) == set(Link)
    assert {link for steps in LINK.values() for link in steps.values()} == set(Link)
    failing = {Step.FAILED, Step.UNREACHABLE}
    assert all(failing & steps.keys() for link, steps in LINK.items() if link is not Link.RESTING)


@pytest.mark.parametrize("event", [Connected(), Unreachable(), StreamOpened(0), Fetched(None), FetchFailed()], ids=repr)
def test_a_result_that_was_not_asked_for_is_a_defect(event: SenderEvent) -> None:
    talk = Talk()
    talk.tell(Woken(), Fetched(None))
    with pytest.raises(Internal):
        talk.tell(event)


def test_another_stream_than_was_asked_for_is_a_defect() -> None:
    talk = Talk()
    talk.tell(Woken(), Fetched(item("1")), Connected())
    with pytest.raises(Internal):
        talk.tell(StreamOpened(2))


def test_waits_grow_until_something_is_recorded() -> None:
    talk = Talk()
    talk.tell(Woken())
    for wait in (1.0, 1.5, 2.25, 3.375):
        talk.tell(Fetched(item("1")))
        assert talk.tell(Unreachable()) == [SetTimer(talk.now + wait)]
        assert talk.until_timer() == [fetch()]
    talk.up()
    talk.acknowledge(talk.send(item("1")), OK)
    assert talk.machine.failures == 4
    talk.tell(Stored("1"))
    assert talk.machine.failures == 0


def test_a_stream_that_cannot_be_opened_is_a_failure_too() -> None:
    talk = Talk()
    talk.tell(Woken(), Fetched(item("1")), Connected())
    assert talk.tell(StreamEnded(1, "not taken up")) == [SetTimer(START + 1)]
    assert talk.machine.failures == 1


def test_a_wake_shortens_the_rest_to_the_first_wait() -> None:
    talk = Talk()
    talk.tell(Woken())
    talk.fail_dials(6)
    assert talk.timer == talk.now + 1.5**5
    talk.now += 0.25
    assert talk.tell(Woken()) == [SetTimer(talk.now + 0.75)]
    assert talk.tell(Woken()) == []
    assert talk.until_timer() == [fetch()]


def test_a_peer_that_shows_up_ends_the_rest_at_once() -> None:
    talk = Talk()
    talk.tell(Woken())
    talk.fail_dials(6)
    assert talk.tell(PeerConnected()) == [fetch()]
    assert talk.machine.failures == 0


def test_a_peer_that_comes_and_goes_is_given_one_try_a_second() -> None:
    """Seen to fail where each connection of the peer led to a stream of ours at once."""
    talk = Talk()
    talk.tell(Woken())
    talk.fail_dials(6)
    talk.tell(PeerConnected())
    shown_up = talk.now
    talk.now += 0.25
    talk.fail_dials(1)
    assert talk.timer == shown_up + 1.25
    assert talk.tell(PeerConnected()) == [SetTimer(shown_up + 1)]
    assert talk.tell(PeerConnected()) == []
    assert talk.until_timer() == [fetch()]
    talk.fail_dials(1)
    assert talk.timer == talk.now + 1.5
    assert talk.tell(PeerConnected()) == [fetch()]


# --- other networks


def test_after_a_renewal_the_rest_is_over_and_waits_begin_anew() -> None:
    """Seen to fail where it was taken for any news: the next failure led to the longest wait."""
    talk = Talk()
    talk.tell(Woken())
    talk.fail_dials(9)
    talk.now += 2
    assert talk.tell(Renewed()) == [fetch()]
    assert talk.tell(Fetched(item("1"))) == [Dial()]
    assert talk.tell(Unreachable()) == [SetTimer(talk.now + 1)]


def test_renewals_without_end_are_a_dial_a_second() -> None:
    talk = Talk()
    talk.tell(Renewed())
    talk.fail_dials(1)
    for _ in range(50):
        assert Dial() not in talk.tell(Renewed(), GreetingAsked())
    assert talk.timer == talk.now + 1
    assert talk.until_timer() == [Dial()]


@pytest.mark.parametrize("greeting", [True, False])
def test_a_dial_from_before_is_made_again_if_it_fails(greeting: bool) -> None:
    """It was made in a network that is gone. Seen to fail where nothing waited but a greeting."""
    talk = Talk()
    talk.tell(Woken(), Fetched(None), GreetingAsked())
    talk.tell(Renewed(), *([GreetingAsked()] if greeting else []), Unreachable())
    assert talk.until_timer() == [Dial()]
    talk.tell(Unreachable())
    assert talk.until_timer() == [fetch()]
    assert talk.tell(Fetched(None)) == []


def test_a_dial_from_before_that_succeeds_is_enough() -> None:
    talk = Talk()
    talk.tell(Woken(), Fetched(None), GreetingAsked(), Renewed(), Connected())
    assert talk.machine.link is Link.DOWN
    talk.tell(Fetched(item("1")), Unreachable())
    assert talk.until_timer() == [fetch()]
    assert talk.tell(Fetched(None)) == []


def test_a_stream_from_before_that_ends_is_followed_by_a_greeting() -> None:
    """The connection was half dead, and the peer may have something for us. Seen to fail without the memory of it."""
    talk = Talk()
    talk.up()
    talk.tell(Fetched(None), Renewed(), Fetched(None))
    assert talk.tell(StreamEnded(1, "no answer to a ping")) == [SetTimer(START + 1)]
    assert talk.until_timer() == [Dial()]


def test_a_stream_that_was_of_use_since_is_none_from_before() -> None:
    talk = Talk()
    talk.up()
    seq = talk.send(item("1"))
    talk.tell(Renewed())
    talk.acknowledge(seq, OK)
    talk.tell(Stored("1"), Fetched(None), Fetched(None), StreamEnded(1, "gone"))
    assert Dial() not in talk.until_timer()


def test_a_renewal_with_a_stream_open_changes_nothing() -> None:
    talk = Talk()
    talk.up()
    talk.tell(Fetched(None))
    assert talk.tell(Renewed()) == [fetch()]
    assert talk.tell(Fetched(None)) == [] and talk.machine.link is Link.UP


# --- greeting


def test_a_greeting_dials_once_whatever_comes_of_it() -> None:
    talk = Talk()
    assert talk.tell(GreetingAsked()) == [Dial()]
    assert talk.tell(Connected()) == [fetch()]
    assert talk.tell(Fetched(None)) == []
    assert talk.tell(GreetingAsked()) == [Dial()]
    assert talk.tell(Unreachable()) == [SetTimer(START + 1)]
    assert talk.until_timer() == [fetch()]
    assert talk.tell(Fetched(None)) == []


def test_a_greeting_that_succeeds_forgets_failures() -> None:
    talk = Talk()
    talk.tell(GreetingAsked(), Unreachable())
    assert talk.machine.failures == 1
    talk.until_timer()
    talk.tell(Fetched(None), GreetingAsked(), Connected())
    assert talk.machine.failures == 0


def test_a_greeting_during_a_rest_waits_for_its_end() -> None:
    talk = Talk()
    talk.tell(Woken())
    talk.fail_dials(1)
    assert talk.tell(GreetingAsked()) == []
    assert talk.until_timer() == [Dial()]


def test_a_greeting_of_a_peer_that_is_connected_meanwhile_is_done() -> None:
    talk = Talk()
    talk.tell(Woken())
    talk.fail_dials(1)
    talk.tell(GreetingAsked())
    assert talk.tell(PeerConnected()) == [fetch()]


def test_a_greeting_while_the_link_is_made_or_up_is_done_already() -> None:
    talk = Talk()
    talk.tell(Woken(), Fetched(item("1")))
    assert talk.tell(GreetingAsked()) == []
    talk.tell(Connected(), GreetingAsked(), StreamOpened(1), GreetingAsked())
    talk.tell(StreamEnded(1, "gone"), Fetched(None))
    assert talk.until_timer() == [fetch()]


def test_a_greeting_opens_a_stream_for_a_hello() -> None:
    """So that each side knows what the other's new version understands before it has anything to send to it."""
    talk = Talk(says_hello=True)
    assert talk.tell(GreetingAsked()) == [Dial()]
    assert talk.tell(Connected()) == [OpenStream(1)]
    assert talk.tell(StreamOpened(1, b"hello")) == [SendFrame(1, HelloFrame(b"hello"))]
    assert talk.tell(FrameSent(1)) == [fetch()]
    assert talk.tell(Fetched(None)) == []
    assert talk.machine.link is Link.UP and talk.timer == NEVER


def test_a_greeting_that_finds_something_waiting_meanwhile_opens_a_stream() -> None:
    talk = Talk()
    talk.tell(Woken())
    assert talk.tell(GreetingAsked()) == [Dial()]
    assert talk.tell(Fetched(item("1"))) == []
    assert talk.tell(Connected()) == [OpenStream(1)]


# --- hellos and frames that the other side sends


def test_our_hello_goes_before_anything_is_fetched() -> None:
    talk = Talk()
    talk.tell(Woken(), Fetched(item("1")), Connected())
    assert talk.tell(StreamOpened(1, b"hello")) == [SendFrame(1, HelloFrame(b"hello"))]
    assert talk.tell(FrameSent(1)) == [fetch()]


def test_the_peer_says_hello_once_on_each_stream() -> None:
    talk = Talk()
    for stream in (1, 2):
        talk.up(stream)
        assert talk.hear(HelloFrame(b"hello"), stream) == [DeliverHello(b"hello")]
        reset, timer = talk.hear(HelloFrame(b"hello"), stream)
        assert isinstance(reset, ResetStream) and reset.stream == stream and isinstance(timer, SetTimer)
        talk.tell(Fetched(None))
        talk.until_timer()


def test_a_hello_after_an_acknowledgement_ends_the_stream() -> None:
    talk = Talk()
    talk.up()
    talk.acknowledge(talk.send(item("1")), OK)
    assert isinstance(talk.hear(HelloFrame(b"hello"))[0], ResetStream)


def test_a_hello_may_come_on_a_stream_after_one_with_acknowledgements() -> None:
    talk = Talk()
    talk.up()
    talk.acknowledge(talk.send(item("1")), OK)
    talk.tell(Stored("1"), Fetched(None), StreamEnded(1, "gone"), Fetched(None))
    talk.until_timer()
    talk.up(stream=2)
    assert talk.hear(HelloFrame(b"hello"), stream=2) == [DeliverHello(b"hello")]


def test_frames_of_unknown_kinds_are_ignored_up_to_a_limit_on_each_stream() -> None:
    talk = Talk()
    for stream in (1, 2):
        talk.up(stream)
        for _ in range(wire.MAX_UNKNOWN):
            assert talk.hear(UnknownFrame(9), stream) == []
        assert isinstance(talk.hear(UnknownFrame(9), stream)[0], ResetStream)
        talk.tell(Fetched(None))
        talk.until_timer()


@pytest.mark.parametrize("frame", [AcknowledgementFrame(1, OK), StatementFrame(0, b"")], ids=repr)
def test_what_the_other_side_may_not_send_ends_the_stream(frame: wire.Frame) -> None:
    talk = Talk()
    talk.up()
    talk.send(item("1"))
    assert isinstance(talk.hear(frame)[0], ResetStream)
    assert talk.machine.link is Link.RESTING and talk.machine.in_flight == []


def test_an_acknowledgement_counts_once() -> None:
    talk = Talk()
    talk.up()
    talk.send(item("1"))
    talk.acknowledge(0, OK)
    assert isinstance(talk.acknowledge(0, OK)[0], ResetStream)


def test_events_of_a_stream_that_is_gone_are_ignored() -> None:
    talk = Talk()
    talk.up()
    talk.send(item("1"))
    talk.tell(Fetched(None), StreamEnded(1, "gone"))
    talk.until_timer()
    talk.up(stream=2)
    talk.tell(Fetched(item("1")))
    assert talk.acknowledge(0, OK, stream=1) == []
    assert talk.tell(FrameSent(1)) == []
    assert talk.tell(StreamEnded(1, "again")) == []
    assert talk.machine.link is Link.UP and talk.machine.in_flight == ["1"]


# --- silence


def test_a_peer_that_acknowledges_nothing_is_given_up() -> None:
    talk = Talk()
    talk.up()
    talk.send(item("1"))
    assert talk.timer == START + 30
    assert talk.until_timer() == [ResetStream(1, "silent"), SetTimer(talk.now + 1)]


def test_each_record_of_an_acknowledgement_starts_the_time_anew_and_the_last_ends_it() -> None:
    """The time that our own store takes is not the peer's silence."""
    talk = Talk()
    talk.up()
    talk.send(item("1"))
    talk.send(item("2"))
    talk.now += 20
    talk.acknowledge(0, OK)
    talk.now += 1000
    assert talk.tell(TimerFired()) == []
    assert talk.tell(Stored("1")) == [SetTimer(talk.now + 30)]
    talk.now += 20
    talk.acknowledge(1, OK)
    talk.tell(Stored("2"))
    assert talk.until_timer() == []
    assert talk.timer == NEVER


def test_silence_is_not_counted_while_a_frame_is_being_written() -> None:
    """Seen to fail where 1 MiB over a line of 30 kB/s was given up after 30 s, again and again."""
    talk = Talk()
    talk.up()
    talk.send(item("1"))
    talk.tell(Fetched(item("2")))
    talk.now += 50
    assert talk.tell(TimerFired()) == []
    assert talk.tell(FrameSent(1))[-1] == SetTimer(talk.now + 30)


# --- what may be out


def test_at_most_sixteen_are_out_until_they_are_recorded() -> None:
    talk = Talk()
    talk.up()
    for number in range(15):
        talk.send(item(str(number)))
    assert talk.tell(Fetched(item("15")), FrameSent(1)) == []
    assert talk.tell(Woken()) == []
    assert talk.acknowledge(0, OK) == [StoreFinal("0", OK)]
    (found,) = talk.tell(Stored("0"))
    assert isinstance(found, FetchNext) and found.keys == {str(number) for number in range(1, 16)}


def test_at_most_a_mebibyte_is_out_and_a_larger_statement_goes_alone() -> None:
    """Seen to fail where a statement went on top of nearly a mebibyte."""
    talk = Talk()
    talk.up()
    talk.send(item("1", size=1024 * 1024 - 10))
    assert talk.tell(Fetched(item("2", size=11))) == []
    assert talk.tell(Woken()) == [fetch("1")], "a smaller one may be more urgent"
    assert talk.send(item("3", size=10)) == 1
    talk.tell(Fetched(item("2", size=11)))
    talk.acknowledge(1, OK)
    assert talk.tell(Stored("3"))[0] == fetch("1")
    talk.tell(Fetched(item("2", size=11)))
    talk.acknowledge(0, OK)
    assert talk.tell(Stored("1")) == [fetch()]
    assert talk.send(item("4", size=2 * 1024 * 1024)) == 2
    assert talk.tell(Fetched(item("2", size=11))) == []


def test_one_frame_is_written_at_a_time() -> None:
    talk = Talk()
    talk.up()
    talk.tell(Fetched(item("1")))
    assert talk.tell(Woken()) == []
    assert talk.tell(FrameSent(1)) == [fetch("1"), SetTimer(START + 30)]


def test_too_many_retries_waiting_hold_everything_up_until_one_is_due() -> None:
    talk = Talk(CourierLimits(retries_waiting=2))
    talk.up()
    talk.acknowledge(talk.send(item("1")), BUSY)
    assert talk.tell(Fetched(None), Stored("1")) == [fetch("1")]
    talk.acknowledge(talk.send(item("2")), BUSY)
    assert talk.tell(Fetched(None), Stored("2")) == []
    assert talk.tell(Woken()) == []
    assert talk.until_timer() == [fetch()]


# --- retries


def test_a_retry_waits_and_keeps_its_ordering_key_waiting() -> None:
    talk = Talk()
    talk.up()
    talk.send(item("1", "d"))
    assert talk.acknowledge(0, BUSY) == [StoreRetry("1", BUSY), SetTimer(START + 1)]
    talk.tell(Fetched(None))
    assert talk.tell(Stored("1")) == [fetch("1", orderings=("d",))]
    talk.tell(Fetched(None))
    assert talk.until_timer() == [fetch()]
    talk.send(item("1", "d"))
    assert talk.acknowledge(1, BUSY) == [StoreRetry("1", BUSY), SetTimer(talk.now + 1.5)]


def test_retries_are_remembered_for_a_minute_beyond_their_time() -> None:
    """A statement that was purged meanwhile would be remembered for ever."""
    for late, wait in ((59.0, 1.5), (61.0, 1.0)):
        talk = Talk()
        talk.up()
        talk.acknowledge(talk.send(item("1")), BUSY)
        talk.tell(Stored("1"), Fetched(None), Fetched(None))
        talk.until_timer()
        talk.tell(Fetched(None))
        talk.now += late
        talk.tell(Woken())
        talk.acknowledge(talk.send(item("1")), BUSY)
        assert talk.timer == talk.now + wait


def test_a_peer_that_shows_up_makes_every_retry_due() -> None:
    talk = Talk()
    talk.up()
    talk.acknowledge(talk.send(item("1")), BUSY)
    talk.tell(Stored("1"), Fetched(None), Fetched(None))
    assert talk.tell(PeerConnected()) == [fetch()]


def test_our_own_first_dial_makes_no_retry_due() -> None:
    """Seen to fail where a peer that refuses and hangs up was sent everything again with each connection."""
    talk = Talk(CourierLimits(first_retry=10.0))
    talk.up()
    talk.acknowledge(talk.send(item("1")), BUSY)
    talk.tell(Stored("1"), Fetched(None), Fetched(None))
    talk.now += 5
    talk.tell(StreamEnded(1, "gone"))
    assert talk.until_timer() == [fetch()]  # at 15, the retry was due at 10
    talk.tell(Fetched(item("1")), Connected(), StreamOpened(2))
    talk.acknowledge(talk.send(item("1")), BUSY, stream=2)
    talk.tell(Stored("1"), Fetched(None), Fetched(None), StreamEnded(2, "gone"))
    assert talk.until_timer() == [fetch("1"), SetTimer(START + 30)]
    assert talk.tell(Fetched(item("2"))) == [Dial()]
    assert talk.tell(PeerConnected(), Connected()) == [OpenStream(3)]
    assert talk.tell(StreamOpened(3)) == [fetch("1")]


def test_a_dial_that_succeeds_after_one_that_failed_makes_retries_due() -> None:
    talk = Talk()
    talk.up()
    for seq in range(6):
        talk.send(item("1"))
        talk.acknowledge(seq, BUSY)
        talk.tell(Stored("1"), Fetched(None), Fetched(None))
        if seq < 5:
            talk.until_timer()
    due = talk.timer
    assert due == talk.now + 1.5**5
    talk.tell(StreamEnded(1, "gone"))
    assert talk.until_timer() == [fetch("1"), SetTimer(due)]
    talk.tell(Fetched(item("2")), Unreachable())
    assert talk.until_timer() == [fetch("1"), SetTimer(due)]
    talk.tell(Fetched(item("2")), PeerConnected(), Connected())
    assert talk.machine.failures == 2, "a peer that hangs up each time is not dialled faster for it"
    assert talk.tell(StreamOpened(2)) == [fetch()]


# --- a store that fails


def test_an_acknowledgement_that_could_not_be_stored_is_asked_for_again() -> None:
    talk = Talk()
    talk.up()
    talk.acknowledge(talk.send(item("1")), OK)
    reset, timer = talk.tell(StoreFailed("1"))
    assert isinstance(reset, ResetStream) and timer == SetTimer(START + 1)
    talk.tell(Fetched(None))
    assert talk.until_timer() == [fetch()]


def test_what_is_being_stored_is_not_sent_again_on_the_next_stream() -> None:
    """Seen to fail where a slow disk and a lost stream together led to a statement sent twice."""
    talk = Talk()
    talk.up()
    talk.acknowledge(talk.send(item("1", "d")), OK)
    talk.tell(Fetched(None), StreamEnded(1, "gone"))
    assert talk.until_timer() == [fetch("1", orderings=("d",))]
    talk.tell(Fetched(None))
    assert talk.tell(StoreFailed("1")) == [fetch()]


def test_an_outbox_that_cannot_be_read_is_waited_for() -> None:
    talk = Talk()
    talk.tell(Woken())
    assert talk.tell(FetchFailed()) == [SetTimer(START + 1)]
    assert talk.until_timer() == [fetch()]
    talk.up()
    reset, timer = talk.tell(FetchFailed())
    assert isinstance(reset, ResetStream) and timer == SetTimer(talk.now + 1.5)


def test_a_fetch_that_fails_while_the_peer_is_dialled_is_made_again() -> None:
    talk = Talk()
    talk.tell(Woken(), GreetingAsked())
    assert talk.tell(FetchFailed()) == []
    assert talk.tell(Connected()) == [fetch()]


def test_the_machine_shows_itself() -> None:
    talk = Talk()
    talk.up()
    talk.send(item("1"))
    assert repr(talk.machine) == "PeerSender(up, 0 failures, stream 1, Window(1 in flight, 0 storing, 0 waiting))"
    assert repr(item("7", "d")) == "OutboxItem('7', 'd', 10 bytes)"
    assert repr(fetch("2", "1", orderings=("d",))) == "FetchNext(without ['1', '2'], ['d'])"
    assert repr(StoreFinal("1", Acknowledgement(403, "words"))) == "StoreFinal('1', 403)"
