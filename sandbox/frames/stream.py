"""Frames as lines of a byte stream: encoding, strict decoding, reading and writing. What frames there are: messages.py.

One frame is one JSON object on one line (NDJSON), at most `MAX_LINE` bytes with its newline; its `kind` names the type.
Unknown members, wrong types, missing members, oversized lines and lines that end before their newline are a
`FrameError`; neither side guesses.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from typing import Final, Generic, TypeVar

import msgspec
import trio

from sandbox.errors import FrameError
from sandbox.frames.messages import ToAgent, ToNode

MAX_LINE: Final = 8 * 1024 * 1024
"""Bytes of one line. The largest honest frame is a Write of a few megabytes with its diff."""

_CHUNK: Final = 64 * 1024

_Frame = TypeVar("_Frame")
_TO_AGENT: Final[msgspec.json.Decoder[ToAgent]] = msgspec.json.Decoder(ToAgent)
_TO_NODE: Final[msgspec.json.Decoder[ToNode]] = msgspec.json.Decoder(ToNode)


def encode(frame: ToAgent | ToNode) -> bytes:
    """The frame's line, newline included. FrameError 413 if longer than `MAX_LINE`, 422 if its text is not Unicode."""
    try:
        line = msgspec.json.encode(frame) + b"\n"
    except (UnicodeEncodeError, msgspec.MsgspecError) as error:
        raise FrameError("a frame holds text that is not Unicode") from error
    if len(line) > MAX_LINE:
        raise FrameError(f"a frame of {len(line)} bytes is over the limit of {MAX_LINE}", code=413)
    return line


def decode_to_agent(line: bytes) -> ToAgent:
    """A line from the node, newline optional. FrameError when it is anything else."""
    return _decode(line, _TO_AGENT)


def decode_to_node(line: bytes) -> ToNode:
    """A line from the agent, newline optional. FrameError when it is anything else."""
    return _decode(line, _TO_NODE)


def _decode(line: bytes, decoder: msgspec.json.Decoder[_Frame]) -> _Frame:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        # The message names the member, hardly ever a value (only an unknown tag): frames hold secrets and other
        # people's texts.
        raise FrameError(f"not a frame: {error}") from error


async def lines(stream: trio.abc.ReceiveStream, *, limit: int = MAX_LINE) -> AsyncIterator[bytes]:
    """Lines of `stream` without their newline. FrameError 413 past `limit` bytes, 422 when input ends inside a line."""
    pending = bytearray()
    while chunk := await stream.receive_some(_CHUNK):
        searched = len(pending)
        pending += chunk
        while (end := pending.find(b"\n", searched)) >= 0:
            if end >= limit:
                raise FrameError(f"a line is over the limit of {limit} bytes", code=413)
            yield bytes(pending[:end])
            del pending[: end + 1]
            searched = 0
        if len(pending) >= limit:
            raise FrameError(f"a line is over the limit of {limit} bytes", code=413)
    if pending:
        raise FrameError("the input ended in the middle of a line")


class FrameReader(Generic[_Frame]):
    """Typed frames out of a byte stream; iterate. `decode` is `decode_to_agent` or `decode_to_node`."""

    def __init__(
        self, stream: trio.abc.ReceiveStream, decode: Callable[[bytes], _Frame], *, limit: int = MAX_LINE
    ) -> None:
        self._stream = stream
        self._decode = decode
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[_Frame]:
        async for line in lines(self._stream, limit=self._limit):
            if line.strip():
                yield self._decode(line)


class FrameWriter:
    """Frames onto a byte stream, whole lines in the order of the calls, from any number of tasks."""

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self._stream = stream
        self._lock = trio.Lock()
        self._patience = math.inf
        self._writing: trio.CancelScope | None = None
        self._broken = False

    def hurry(self, seconds: float) -> None:
        """From now on, a line that the reader does not accept within so many seconds breaks the stream."""
        self._patience = seconds
        if self._writing is not None:
            self._writing.deadline = min(self._writing.deadline, trio.current_time() + seconds)

    async def send(self, frame: ToAgent | ToNode) -> None:
        """Write one frame.

        FrameError as `encode`; trio.BrokenResourceError when the reader is gone, or too slow after `hurry`.
        """
        line = encode(frame)
        async with self._lock:
            if self._broken:
                raise trio.BrokenResourceError("the reader accepted only half a line")
            # Half a line would garble every frame after it, so a cancelled sender still finishes its own.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + self._patience) as self._writing:
                await self._stream.send_all(line)
            if self._writing.cancelled_caught:
                self._broken = True
                raise trio.BrokenResourceError("the reader accepts nothing")
            self._writing = None
