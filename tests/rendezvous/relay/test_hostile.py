"""What strangers and hostile devices try at a relay, over real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed

from peer.protocol.relays import messages
from peer.protocol.relays.messages import (
    CONTROL_PATH,
    MAX_MESSAGE,
    MAX_PIECE,
    PIPE_PATH,
    Challenge,
    Join,
    Joined,
    Listen,
    Ring,
    Ticket,
    Welcome,
)
from peer.protocol.turns import Place
from rendezvous.relay.admission import Admission
from rendezvous.relay.limits import RelayLimits
from tests.conftest import HANG
from tests.rendezvous.relay.world import (
    SECRET,
    Broker,
    ByHand,
    Client,
    Keys,
    Running,
    proof,
    running_relay,
    two,
    upgrade,
)

TAG = b"t" * 16
NO_TAG = b"n" * 16


@pytest.fixture
async def relay() -> AsyncIterator[Running]:
    async with running_relay() as running:
        yield running


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- turns


async def test_strangers_wait_for_their_turn_and_who_is_admitted_does_not(relay: Running) -> None:
    """Seen to fail without a turn at the accept, without one after each read, and without `free`."""
    async with relay.control(Keys()) as admitted:
        asked: list[object] = []
        ask = relay.relay.turns.ask

        def asking(who: object, go_on: Callable[[], object]) -> None:
            asked.append(who)
            ask(who, go_on)

        relay.relay.turns.ask = asking  # type: ignore[method-assign]
        assert isinstance(await admitted.ring(1, NO_TAG), Ticket)
        assert not asked
        async with await relay.connect() as stranger:
            await relay.until(lambda: len(asked) == 1)
            await stranger.send_all(b"GET /health HTTP/1.1\r\nHost: relay\r\n")
            await relay.until(lambda: len(asked) == 2)
            await stranger.send_all(b"\r\n")
            assert b"200" in await stranger.receive_some()
            assert len(asked) == 3 and len(set(asked)) == 1
    await relay.until(lambda: not relay.relay.connections)
    assert not len(relay.relay.turns)


async def test_of_strangers_that_come_and_end_together_one_goes_on_in_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty come to ten places. Seen to fail where an end waits for no turn, and where all that wait go on at once."""
    went_on: list[tuple[int, bool]] = []
    go_on = Place._go_on

    class Passes(trio.abc.Instrument):
        number = 0

        def after_io_wait(self, _timeout: float) -> None:
            self.number += 1

    def noted(place: Place) -> None:
        went_on.append((passes.number, place._cancel is not None))
        go_on(place)

    monkeypatch.setattr(Place, "_go_on", noted)
    passes = Passes()
    trio.lowlevel.add_instrument(passes)
    limits = RelayLimits(handshakes_per_network=10, handshake_seconds=HANG)
    async with running_relay(limits=limits) as relay:
        strangers = [socket.create_connection(("127.0.0.1", relay.port)) for _ in range(30)]
        await relay.until(lambda: sum(ended for _, ended in went_on) == 20)
        for stranger in strangers:
            stranger.close()
        await relay.until(lambda: not relay.relay.connections)
    assert len(went_on) >= 60
    assert len({number for number, _ in went_on}) == len(went_on)


# --- who may use it


async def test_a_proof_is_for_one_connection_and_one_relay(relay: Running) -> None:
    keys = Keys()
    async with relay.challenged() as (first, challenge):
        async with relay.challenged() as (second, other):
            assert other.nonce != challenge.nonce
            await second.send(proof(keys, challenge))  # replayed: of the other connection
            assert (await second.closed())[0] == 4401
        await first.send(proof(keys, challenge))
        assert isinstance(await first.receive(), Welcome)
    async with relay.challenged() as (client, challenge):
        await client.send(proof(keys, challenge, origin="https://relay.example"))
        assert (await client.closed())[0] == 4401
    async with relay.challenged() as (client, challenge):
        made = proof(keys, challenge)
        await client.send(messages.Proof(Keys().device, made.signature, made.token))
        assert (await client.closed())[0] == 4401
    assert relay.relay.refused["not_proven"] == 3


@pytest.mark.parametrize("token", [b"", SECRET[:-1], SECRET + b"x", b"\xff" * 100])
async def test_without_the_secret_nobody_is_admitted(relay: Running, token: bytes) -> None:
    async with relay.challenged() as (client, challenge):
        await client.send(proof(Keys(), challenge, token))
        assert (await client.closed())[0] == 4401
    assert relay.relay.registry.is_empty()


async def test_tokens_that_admit_nobody() -> None:
    broker, keys = Broker(), Keys()
    right = broker.token(keys.device)
    tokens = {
        b"": 4401,
        SECRET: 4401,
        right[:-1]: 4401,
        right[:-1] + bytes([right[-1] ^ 1]): 4401,
        broker.token(keys.device, lasts_ms=-301_000): 4401,
        broker.token(Keys().device): 4401,
        Broker().token(keys.device): 4403,
    }
    async with running_relay(admission=Admission(frozenset({broker.public}))) as relay:
        for token, code in tokens.items():
            async with relay.challenged() as (client, challenge):
                await client.send(proof(keys, challenge, token))
                assert (await client.closed())[0] == code, token
        async with relay.control(keys, right):
            pass


# --- tickets


async def test_a_ticket_is_used_once_and_by_its_own_side(relay: Running) -> None:
    async with two(relay) as (caller, callee):
        ticket = await caller.ticket(TAG)
        incoming = await callee.incoming()
        async with relay.pipe(os.urandom(16)) as guessed:
            assert (await guessed.closed())[0] == 4404
        async with relay.pipe(ticket) as near:
            await relay.until(lambda: len(relay.relay.handshakes) == 0)
            async with relay.pipe(ticket) as again:  # the same side twice is no pipe
                assert (await again.closed())[0] == 4404
            async with relay.pipe(incoming.ticket) as far:
                assert await near.receive() == Joined() == await far.receive()
                async with relay.pipe(incoming.ticket) as again:
                    assert (await again.closed())[0] == 4404
                await far.socket.send_message(b"still there")
                assert await near.socket.get_message() == b"still there"


async def test_whoever_rings_cannot_tell_why_nobody_comes() -> None:
    """Unknown, gone, refusing, slow and too busy: the same messages, the same code, at the same time."""
    limits = RelayLimits(ticket_seconds=1, ring_burst_at_tag=1, rings_per_minute_at_tag=1)
    async with (
        running_relay(limits=limits) as relay,
        two(relay) as (caller, callee),
        trio.open_nursery() as nursery,
    ):
        seen: dict[str, tuple[list[str], tuple[int, str], float]] = {}

        async def observe(case: str, tag: bytes, *, then: str = "") -> None:
            answer = await caller.ring(1, tag)
            assert isinstance(answer, Ticket)
            pipe_deadline = next(reversed(relay.relay.registry._pending)).deadline / 1000
            incoming = await callee.incoming() if then else None

            async def wait() -> None:
                async with relay.pipe(answer.ticket) as near:
                    if then == "refuses" and incoming is not None:
                        async with relay.pipe(incoming.ticket) as far:
                            await far.socket.ping()
                    ended = await near.closed()
                    seen[case] = ([type(answer).__name__], ended, trio.current_time() - pipe_deadline)

            if then == "refuses":
                # It comes and goes before the caller does: no Joined for either.
                assert incoming is not None
                async with relay.pipe(incoming.ticket) as far:
                    await relay.until(lambda: len(relay.relay.handshakes) == 0)
                    await far.socket.aclose()
                async with relay.pipe(answer.ticket) as near:
                    seen[case] = (
                        [type(answer).__name__],
                        await near.closed(),
                        trio.current_time() - pipe_deadline,
                    )
            else:
                nursery.start_soon(wait)

        await callee.listen(TAG, b"a" * 16)
        await observe("unknown", NO_TAG)
        await observe("slow", TAG, then="is slow")
        await observe("too busy", TAG)
        await observe("refuses", b"a" * 16, then="refuses")
        await callee.send(Listen(()))
        await relay.until(lambda: relay.relay.registry.tags == 0)
        await observe("gone", b"a" * 16)
        await relay.until(lambda: len(seen) == 5)
        assert {(*messages, ended) for messages, ended, _ in seen.values()} == {
            ("Ticket", (4408, "the other end did not connect in time"))
        }
        # Never before the ticket is over, which is the same for all.
        assert all(after >= 0 for _, _, after in seen.values())


async def test_a_ticket_that_is_over_is_none() -> None:
    async with running_relay(limits=RelayLimits(ticket_seconds=0.05)) as relay, two(relay) as (caller, callee):
        ticket = await caller.ticket(TAG)
        incoming = await callee.incoming()
        deadline = next(reversed(relay.relay.registry._pending)).deadline
        await relay.until(lambda: relay.relay.now() > deadline)
        for late in (ticket, incoming.ticket):
            async with relay.pipe(late) as client:
                assert (await client.closed())[0] == 4404


async def test_a_caller_that_leaves_takes_the_other_ticket_along(relay: Running) -> None:
    async with two(relay) as (caller, callee):
        ticket = await caller.ticket(TAG)
        incoming = await callee.incoming()
        async with relay.pipe(ticket):
            await relay.until(lambda: len(relay.relay.handshakes) == 0)
        await relay.until(lambda: len(relay.relay.registry._tickets) < 3)
        async with relay.pipe(incoming.ticket) as far:
            assert (await far.closed())[0] == 4404


# --- what is no message


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\xa0", b"\xa1\x00\x0a", os.urandom(200), b"\xa2\x00\x09\x01\x41x"])
@pytest.mark.parametrize("path", [CONTROL_PATH, PIPE_PATH])
async def test_garbage_ends_a_connection_and_nothing_else(relay: Running, path: str, raw: bytes) -> None:
    async with relay.control(Keys()) as bystander:
        async with relay.socket(path) as client:
            await client.socket.send_message(raw)
            assert (await client.closed())[0] == 1002
        async with relay.control(Keys()) as admitted:
            await admitted.socket.send_message(raw)
            assert (await admitted.closed())[0] == 1002
        assert isinstance(await bystander.ring(1, TAG), Ticket)


@pytest.mark.parametrize("path", [CONTROL_PATH, PIPE_PATH])
async def test_a_text_ends_a_connection(relay: Running, path: str) -> None:
    async with relay.socket(path) as client:
        await client.socket.send_message("hello")
        assert (await client.closed())[0] == 1003
    async with two(relay) as (caller, callee), relay.joined(caller, callee, TAG) as (near, far):
        await near.socket.send_message("hello")
        assert (await near.closed())[0] == 1003 and (await far.closed())[0] == 1000


async def test_messages_that_are_too_large(relay: Running) -> None:
    async with two(relay) as (caller, callee):
        async with relay.joined(caller, callee, TAG) as (near, far):
            with suppress(ConnectionClosed):  # it is refused by its header
                await near.socket.send_message(bytes(MAX_PIECE + 1))
            assert (await near.closed())[0] == 1009 and (await far.closed())[0] == 1000
        with suppress(ConnectionClosed):
            await caller.socket.send_message(bytes(MAX_MESSAGE + 1))
        assert (await caller.closed())[0] == 1009
        assert isinstance(await callee.ring(1, TAG), Ticket)


async def test_bytes_before_the_other_end_is_there(relay: Running) -> None:
    async with two(relay) as (caller, _), relay.pipe(await caller.ticket(TAG)) as near:
        await near.socket.send_message(b"early")
        assert (await near.closed())[0] == 1002


def frame(payload: bytes, *, opcode: int = 2, final: bool = True) -> bytes:
    """A masked frame of at most 125 bytes; the mask is zero."""
    return bytes([(0x80 if final else 0) | opcode, 0x80 | len(payload)]) + bytes(4) + payload


async def sent(hand: ByHand, frames: bytes, times: int) -> None:
    """Send until the relay has had enough, and wait until it has closed."""
    with suppress(trio.BrokenResourceError):
        for _ in range(times):
            await hand.stream.send_all(frames)
    await hand.rest()


async def test_fragments_without_end() -> None:
    """trio-websocket keeps each, also an empty one."""
    limits = RelayLimits(first_frames=1_000_000, handshake_seconds=2 * HANG)
    async with running_relay(limits=limits) as relay, relay.by_hand(PIPE_PATH) as hand:
        await hand.stream.send_all(frame(b"", final=False))
        await sent(hand, frame(b"", opcode=0, final=False), 1000)


PONG = b"\x8a\0"


async def test_pings_of_whoever_has_proven_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """One ends the connection, unanswered. Seen to fail (the pong; it was not closed) where it is as any frame."""
    limits = RelayLimits(handshake_seconds=2 * HANG)
    async with running_relay(limits=limits) as relay, relay.by_hand(CONTROL_PATH) as hand:
        await hand.stream.send_all(frame(b"", opcode=9))
        assert PONG not in await hand.rest()
    assert "connection.failed" not in capfd.readouterr().err


async def test_a_flood_of_small_messages_is_read_slowly_and_others_are_served() -> None:
    """A device that floods is held back by TCP; what it may cost is a rate of frames."""
    limits = RelayLimits(control_frames_per_second=5, control_frame_burst=10, ring_burst=1_000_000)
    async with running_relay(limits=limits) as relay, relay.by_hand(CONTROL_PATH) as hand:
        challenge = messages.decode(await hand.message())
        assert isinstance(challenge, Challenge)
        await hand.send(messages.encode(proof(Keys(), challenge)))
        assert isinstance(messages.decode(await hand.message()), Welcome)
        stream = next(iter(relay.relay.connections)).stream
        assert stream is not None

        async def flood() -> None:
            while True:
                await hand.stream.send_all(frame(b"", opcode=9) * 1000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await relay.until(lambda: stream._left < 1)
            async with two(relay) as (caller, callee), relay.joined(caller, callee, TAG) as (near, far):
                await near.socket.send_message(b"x")
                assert await far.socket.get_message() == b"x"
            nursery.cancel_scope.cancel()


# --- requests


async def response(relay: Running, *pieces: bytes) -> bytes:
    async with await relay.connect() as stream:
        received = b""
        with trio.fail_after(HANG), suppress(trio.BrokenResourceError):
            for piece in pieces:
                await stream.send_all(piece)
            async for data in stream:
                received += data
        return received


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"garbage\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000, 431),
        (upgrade(CONTROL_PATH, protocol="chat"), 400),
        (upgrade(CONTROL_PATH + "/"), 404),
        (upgrade(CONTROL_PATH + "?x"), 404),
        (upgrade(CONTROL_PATH, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        (upgrade(CONTROL_PATH, "Content-Length: 3"), 400),
        (upgrade(CONTROL_PATH, "Transfer-Encoding: chunked"), 400),
        (upgrade(CONTROL_PATH).replace(b"Host: relay", "Host: rélay".encode()), 400),
        (upgrade(CONTROL_PATH).replace(b"n: 13", b"n: 8"), 426),
        (upgrade(CONTROL_PATH).replace(b"HTTP/1.1", b"HTTP/1.0"), 426),
        (upgrade(CONTROL_PATH).replace(b"jZQ==", b"jZQ="), 400),
        (upgrade(CONTROL_PATH).replace(b"GET", b"POST"), 405),
    ],
)
async def test_what_is_no_websocket_gets_a_short_answer(relay: Running, request_: bytes, status: int) -> None:
    said = await response(relay, request_)
    assert said.startswith(b"HTTP/1.1 %d " % status) and len(said) < 500
    assert relay.relay.refused["requests"] == 1


async def test_no_extension_is_accepted(relay: Running) -> None:
    async with await relay.connect() as stream:
        await stream.send_all(upgrade(CONTROL_PATH, "Sec-WebSocket-Extensions: permessage-deflate"))
        said = await stream.receive_some()
        assert said.startswith(b"HTTP/1.1 101") and b"extensions" not in said.lower()


async def test_frames_behind_the_request_are_not_lost(relay: Running) -> None:
    async with await relay.connect() as stream:
        await stream.send_all(upgrade(PIPE_PATH) + frame(messages.encode(Join(bytes(16)))))
        received = b""
        with trio.fail_after(HANG):
            async for data in stream:
                received += data
        assert b"that ticket is unknown" in received


# --- floods


@pytest.mark.parametrize("said", [b"", b"GET", upgrade(CONTROL_PATH), upgrade(PIPE_PATH)])
async def test_whoever_does_not_go_on_is_ended_by_the_time_of_a_handshake(said: bytes) -> None:
    async with running_relay(limits=RelayLimits(handshake_seconds=0.2, close_seconds=0.1)) as relay:
        async with await relay.connect() as stream:
            await stream.send_all(said)
            with trio.fail_after(HANG):
                async for _ in stream:
                    pass
        await relay.until(lambda: not len(relay.relay.open))


@pytest.mark.parametrize("before", [b"", upgrade(CONTROL_PATH) + b"\x82\xff", upgrade(PIPE_PATH) + b"\x82\xff"])
async def test_one_byte_after_the_other_is_too_slow(before: bytes) -> None:
    """However long it goes on: the time is that of the whole handshake. What comes is a head, or a message."""
    async with running_relay(limits=RelayLimits(handshake_seconds=0.3, close_seconds=0.1)) as relay:
        async with await relay.connect() as stream:
            await stream.send_all(before)
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(HANG):
                while True:
                    await stream.send_all(b"\0" if before else b"G")
                    await trio.sleep(0.01)
        await relay.until(lambda: not len(relay.relay.open))


async def test_half_open_connections_keep_nobody_out() -> None:
    """From the same address, and so many that all places are taken."""
    limits = RelayLimits(handshake_seconds=HANG)
    async with running_relay(limits=limits) as relay, AsyncExitStack() as stack:
        before = descriptors()
        for number in range(2_000):
            stream = await relay.connect(f"127.0.0.{2 + number % 4}")
            stack.push_async_callback(trio.aclose_forcefully, stream)
        async with relay.control(Keys()) as client:  # it is accepted after them
            assert isinstance(await client.ring(1, TAG), Ticket)
            assert len(relay.relay.handshakes) == 4 * limits.handshakes_per_network
        stream = await relay.connect("127.0.0.2")
        async with stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            with trio.fail_after(HANG):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        await stack.aclose()
        await relay.until(lambda: not len(relay.relay.open) and descriptors() <= before)


async def test_networks_without_number_keep_nobody_out() -> None:
    limits = RelayLimits(handshakes=20, handshakes_per_network=10)
    async with running_relay(limits=limits) as relay, AsyncExitStack() as stack:
        for number in range(200):
            stream = await relay.connect(f"127.0.1.{1 + number}")
            stack.push_async_callback(trio.aclose_forcefully, stream)
        await relay.until(lambda: len(relay.relay.handshakes) == 20)
        async with relay.control(Keys()) as client:
            assert isinstance(await client.ring(1, TAG), Ticket)


async def test_connections_of_one_network_are_bounded_and_through_a_proxy_by_whom_it_names() -> None:
    limits = RelayLimits(connections_per_network=2)
    async with running_relay(limits=limits) as relay, AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(relay.control(Keys()))
        assert await response(relay, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    async with running_relay(limits=limits, proxies=("127.0.0.1",)) as relay, AsyncExitStack() as stack:

        async def through(address: str) -> bytes:
            stream = await stack.enter_async_context(await relay.connect())
            await stream.send_all(upgrade(CONTROL_PATH, f"X-Forwarded-For: {address}"))
            with trio.fail_after(HANG):
                return await stream.receive_some()

        statuses = [(await through(address))[9:12] for address in ("192.0.2.1",) * 3 + ("192.0.2.2",)]
        assert statuses == [b"101", b"101", b"429", b"101"]


# --- devices that do not read


def set_buffer(client: Client, size: int) -> None:
    """Set how much the kernel holds of what a client does not read."""
    stream = client.socket._stream
    assert isinstance(stream, trio.SocketStream)
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


async def test_a_device_that_does_not_read_its_messages_is_dropped() -> None:
    limits = RelayLimits(
        ring_burst=100_000,
        ring_burst_at_tag=100_000,
        incoming_per_device=100_000,
        pending_per_device=100_000,
        pipes=100_000,
        pipes_per_user=100_000,
        pipes_per_device=100_000,
        control_frame_burst=100_000,
        close_seconds=0.1,
    )
    async with (
        running_relay(limits=limits) as relay,
        relay.control(Keys()) as caller,
        relay.by_hand(CONTROL_PATH) as hand,
    ):
        hand.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        challenge = messages.decode(await hand.message())
        assert isinstance(challenge, Challenge)
        await hand.send(messages.encode(proof(Keys(), challenge)))
        await hand.send(messages.encode(Listen((TAG,))))
        await relay.until(lambda: relay.relay.registry.tags == 1)
        rung = 0
        with trio.fail_after(HANG):
            while relay.relay.registry.tags:
                assert isinstance(await caller.ring(rung, TAG, b"s" * 512), Ticket)  # the caller sees nothing of it
                rung += 1
        assert relay.relay.registry.devices_connected == 1 and rung < 2_000, rung


async def test_whoever_writes_to_an_end_that_does_not_read_is_held_back(relay: Running) -> None:
    """By TCP: what the relay holds is some messages, whatever the kernels hold."""
    async with two(relay) as (caller, callee), relay.joined(caller, callee, TAG) as (near, far):
        set_buffer(far, 4096)
        piece = os.urandom(64 * 1024)
        sent = 0
        with trio.fail_after(HANG):
            while True:  # until a write does not end, and the relay takes nothing more
                with trio.move_on_after(1) as writing:
                    await near.socket.send_message(piece)
                if writing.cancelled_caught:
                    break
                sent += len(piece)
        taken = relay.relay.registry.bytes_relayed
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert relay.relay.registry.bytes_relayed == taken <= sent < 64 << 20
        # Others are served meanwhile.
        async with relay.control(Keys()) as other:
            assert isinstance(await other.ring(1, NO_TAG), Ticket)
        set_buffer(far, 1 << 20)
        received = 0
        with trio.fail_after(HANG):
            while received < sent:
                part = await far.socket.get_message()
                assert part == piece
                received += len(part)


async def test_tags_and_pipes_have_a_number_in_all() -> None:
    limits = RelayLimits(tags=3, pipes=2)
    async with (
        running_relay(limits=limits) as relay,
        relay.control(Keys()) as client,
        relay.control(Keys()) as other,
    ):
        await client.send(Listen(tuple(bytes([n]) * 16 for n in range(3))))
        assert isinstance(await client.ring(1, NO_TAG), Ticket)
        await other.send(Listen((b"x" * 16,)))
        assert (await other.closed())[0] == 4429
        assert isinstance(await client.ring(2, NO_TAG), Ticket)
        refused = await client.ring(3, NO_TAG)
        assert refused == messages.Refusal(3, 503)


async def test_a_ping_while_it_closes_is_no_error_of_the_relay(
    relay: Running, capfd: pytest.CaptureFixture[str]
) -> None:
    async with relay.by_hand(CONTROL_PATH) as hand:
        challenge = messages.decode(await hand.message())
        assert isinstance(challenge, Challenge)
        await hand.send(messages.encode(proof(Keys(), challenge)))
        assert isinstance(messages.decode(await hand.message()), Welcome)
        await hand.stream.send_all(frame(b"x", opcode=1) + frame(b"", opcode=9) * 5)
        assert b"messages are binary" in await hand.rest()
    async with relay.control(Keys()) as client:
        await client.send(Ring(1, TAG, b"x"))
        assert isinstance(await client.receive(), Ticket)
    assert "connection.failed" not in capfd.readouterr().err
