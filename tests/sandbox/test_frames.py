"""Frames: round trips, strictness, bounds, and lines that arrive in pieces."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sandbox import frames
from sandbox.errors import FrameError

START = frames.Start(dispatch_id="d", attempt=1, sender="alice@example.org", task="do it", run_dir="/run/d")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
JSON = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, max_size=4)
CALL_ID = TEXT.filter(bool)

TO_NODE = st.one_of(
    st.builds(frames.TraceEntry, event=st.builds(frames.Reasoning, text=TEXT)),
    st.builds(
        frames.TraceEntry,
        event=st.builds(frames.ToolCall, call_id=CALL_ID, tool=TEXT, input=JSON, agent_id=st.none() | TEXT),
    ),
    st.builds(
        frames.Call,
        call_id=CALL_ID,
        tool=TEXT,
        input=JSON,
        verdict=st.sampled_from(["allow", "ask"]),
        by=st.sampled_from(["scope", "rule", "session"]),
        answer_seconds=st.floats(0.1, 1000),
        diff=st.none() | TEXT,
        unusual=st.lists(TEXT, max_size=3),
        rule_if_always=st.none() | st.builds(frames.Rule, tool=TEXT, pattern=TEXT),
    ),
    st.builds(frames.CallClosed, call_id=CALL_ID),
    st.builds(frames.Finished, status=st.sampled_from(["completed", "failed"]), reply=TEXT),
)


@given(TO_NODE)
def test_a_frame_comes_back_as_it_went_on_one_line(frame: Any) -> None:
    line = frames.encode(frame)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert frames.decode_to_node(line) == frame


@given(st.binary(max_size=200))
def test_noise_is_a_frame_error_and_nothing_else(noise: bytes) -> None:
    for decode in (frames.decode_to_agent, frames.decode_to_node):
        with pytest.raises(FrameError):
            decode(noise)


def _changed(**change: Any) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(frames.encode(START)), **change})


@pytest.mark.parametrize(
    "line",
    [
        _changed(surprise=1),
        _changed(kind="begin"),
        _changed(attempt="1"),
        _changed(attempt=-1),
        _changed(approval="never"),
        _changed(answer_seconds=0),
        _changed(budget={"minutes": -1}),
        _changed(rules=[{"tool": "Bash"}]),
        _changed(attached=[{"name": "links>", "heading": "Links", "text": "x"}]),
        _changed(attached=[{"name": "links", "heading": "", "text": "x"}]),
        frames.encode(START).strip() + b"{}",
        frames.encode(frames.CallClosed(call_id="1")),
        b"[" * 100_000,
        b'{"kind":"verdict","call_id":"","allow":true,"by":"person"}',
        b'{"kind":"verdict","call_id":"%s","allow":true,"by":"person"}' % (b"1" * 201),
        b'{"kind":"verdict","call_id":"1","allow":1,"by":"person"}',
        b'{"kind":"verdict","call_id":"1","allow":true,"by":"sender"}',
    ],
)
def test_anything_but_the_agreed_frames_is_refused(line: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        frames.decode_to_agent(line)
    assert caught.value.code == 422


def test_text_that_is_not_unicode_cannot_be_sent() -> None:
    with pytest.raises(FrameError):
        frames.encode(frames.TraceEntry(event=frames.Reasoning(text="\ud800")))


def test_the_key_is_in_no_repr_and_no_error() -> None:
    servers = [frames.McpServer(name="notes", command=["notes"], env={"TOKEN": "sk-secret"})]
    start = msgspec.structs.replace(START, model=frames.Model(api_key="sk-secret"), mcp_servers=servers)
    assert "sk-secret" not in repr(start)
    with pytest.raises(FrameError) as caught:
        frames.decode_to_agent(frames.encode(start).replace(b'"attempt":1', b'"attempt":"x"'))
    assert "sk-secret" not in str(caught.value)


def test_an_oversized_frame_is_not_written() -> None:
    with pytest.raises(FrameError) as caught:
        frames.encode(frames.TraceEntry(event=frames.Reasoning(text="x" * frames.MAX_LINE)))
    assert caught.value.code == 413


async def _lines(*chunks: bytes, limit: int = 100) -> list[bytes]:
    send, receive = trio.testing.memory_stream_one_way_pair()
    for chunk in chunks:
        await send.send_all(chunk)
    await send.aclose()
    return [line async for line in frames.lines(receive, limit=limit)]


async def test_lines_arrive_in_any_pieces() -> None:
    assert await _lines(b"a\nb", b"b\n", b"\n", b"c\n") == [b"a", b"bb", b"", b"c"]


@pytest.mark.parametrize("endless", [b"x" * 100, b"x" * 100 + b"\n"])
async def test_a_line_over_the_limit_ends_the_conversation(endless: bytes) -> None:
    assert await _lines(b"x" * 99 + b"\n") == [b"x" * 99]
    with pytest.raises(FrameError) as caught:
        await _lines(endless)
    assert caught.value.code == 413


async def test_input_that_ends_inside_a_line_is_refused() -> None:
    with pytest.raises(FrameError):
        await _lines(b'{"kind":"cancel"}\n{"kind":"can')


async def test_reader_and_writer_carry_frames_between_tasks() -> None:
    send, receive = trio.testing.memory_stream_one_way_pair()
    writer = frames.FrameWriter(send)
    reader: frames.FrameReader[frames.ToAgent] = frames.FrameReader(receive, frames.decode_to_agent)
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(writer.send, frames.Cancel(reason=str(number)))
    await send.aclose()
    assert {frame.reason async for frame in reader if isinstance(frame, frames.Cancel)} == {
        str(number) for number in range(20)
    }


async def test_half_a_line_is_never_followed_by_another(autojump_clock: trio.testing.MockClock) -> None:
    """Whoever is cancelled while it writes finishes its line; a reader that is too slow for that gets no more."""
    send, receive = trio.testing.lockstep_stream_one_way_pair()
    writer = frames.FrameWriter(send)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as impatient:
            nursery.start_soon(_cancelled_soon, impatient)
            nursery.start_soon(_read_later, receive)
            await writer.send(frames.Cancel(reason="first"))
        await trio.testing.wait_all_tasks_blocked()
    assert not impatient.cancelled_caught, "it was written whole"


async def test_a_reader_that_accepts_nothing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """Both what is being written when the hurry begins, and what comes after. Seen to fail without either."""
    send, receive = trio.testing.lockstep_stream_one_way_pair()
    writer = frames.FrameWriter(send)
    refused: list[str] = []

    async def write(reason: str) -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await writer.send(frames.Cancel(reason=reason))
        refused.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_gone_later, receive)
        nursery.start_soon(write, "under way")
        await trio.testing.wait_all_tasks_blocked()
        writer.hurry(5)
    await write("afterwards")
    assert refused == ["the reader accepts nothing", "the reader accepted only half a line"]


async def test_a_hurry_holds_for_what_is_written_later(autojump_clock: trio.testing.MockClock) -> None:
    send, receive = trio.testing.lockstep_stream_one_way_pair()
    writer = frames.FrameWriter(send)
    writer.hurry(5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_gone_later, receive)
        with pytest.raises(trio.BrokenResourceError, match="the reader accepts nothing"):
            await writer.send(frames.Cancel())


async def _gone_later(receive: trio.abc.ReceiveStream) -> None:
    await trio.sleep(1_000)
    await receive.aclose()


async def _cancelled_soon(scope: trio.CancelScope) -> None:
    await trio.sleep(1)
    scope.cancel()


async def _read_later(receive: trio.abc.ReceiveStream) -> None:
    await trio.sleep(2)
    assert (await receive.receive_some(1_000)).endswith(b"\n")
