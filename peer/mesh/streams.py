"""A stream as our protocols use it: CBOR frames or raw bytes, a deadline for each call, explicit ends.

Not here: what the frames mean (each protocol) and who may open a stream (host.py).
"""

from __future__ import annotations

import trio
from libp2p.abc import INetStream
from libp2p.network.stream.net_stream import NetStream
from libp2p.stream_muxer.exceptions import MuxedStreamError

from peer.mesh.guards.yamux_stream import SafeYamuxStream
from peer.protocol import codec
from peer.protocol.errors import Invalid, TooLarge, Unavailable, WithUsualFix
from peer.protocol.frames import Deframer, frame

READ_BYTES = 256 * 1024
"""Most bytes requested from the muxer at once; it returns what it has."""


class StreamEnded(WithUsualFix, Unavailable):
    """The peer finished, reset the stream or is gone.

    libp2p does not distinguish these. So an end has no meaning in our protocols: everything is framed and acknowledged.
    """

    usual_fix = "it is tried again automatically; see `dispatch contacts`"


class StreamStalled(StreamEnded):
    """Nothing moved before the deadline. The stream was reset."""


class Stream:
    """One negotiated stream to `peer_id` (base58 text, proven by Noise).

    A call that fails, or a write that is cancelled half-way, leaves the stream reset, so that a partial frame is never
    parsed. One task may read and one may write at a time.
    """

    def __init__(self, net_stream: INetStream) -> None:
        assert isinstance(net_stream, NetStream)  # the only kinds that a GuardedSwarm makes
        assert isinstance(net_stream.muxed_stream, SafeYamuxStream)
        self._net = net_stream
        self._muxed = net_stream.muxed_stream
        self._deframer = Deframer()
        self.peer_id: str = net_stream.muxed_conn.peer_id.to_base58()

    async def send(self, value: codec.Value, *, deadline: float) -> None:
        """Send `value` as one frame within `deadline` seconds. Raises StreamEnded, StreamStalled."""
        await self.write(frame(codec.encode(value)), deadline=deadline)

    async def receive(self, *, max_bytes: int, deadline: float = float("inf")) -> codec.Value:
        """Return the next frame's value within `deadline` seconds.

        Raises StreamEnded, StreamStalled, and Invalid or TooLarge (after a reset) for bytes that are not a frame.
        """
        try:
            while (payload := self._deframer.next_frame(max_bytes)) is None:
                self._deframer.feed(await self._read_some(READ_BYTES, deadline))
            return codec.decode(payload, max_bytes=max_bytes)
        except (Invalid, TooLarge):
            await self.reset()
            raise

    async def write(self, data: bytes, *, deadline: float) -> None:
        """Send raw bytes within `deadline` seconds."""
        try:
            with trio.fail_after(deadline):
                await self._muxed.write(data)
        except MuxedStreamError as error:
            raise StreamEnded("the stream to the peer ended") from error
        except trio.TooSlowError as error:
            await self.reset()
            raise StreamStalled("the peer took nothing in time") from error
        except trio.Cancelled:
            await self.reset()
            raise

    async def read(self, max_bytes: int, *, deadline: float) -> bytes:
        """Return between one and `max_bytes` raw bytes within `deadline` seconds; first those that followed a frame."""
        if len(self._deframer):
            return self._deframer.take(max_bytes)
        return await self._read_some(max_bytes, deadline)

    async def gather(self, into: list[bytes], size: int, *, deadline: float) -> None:
        """Append `size` raw bytes to `into` within `deadline` seconds, in pieces that are as large as may be.

        After an error what came before it is in there as well.
        """
        if size and len(self._deframer):
            into.append(self._deframer.take(size))
            size -= len(into[-1])
        try:
            with trio.fail_after(deadline):
                while size:
                    into.append(await self._muxed.read_much(size))
                    size -= len(into[-1])
        except MuxedStreamError as error:
            raise StreamEnded("the stream from the peer ended") from error
        except trio.TooSlowError as error:
            into.append(self._muxed.take_buffered(size))
            await self.reset()
            raise StreamStalled("the peer sent nothing in time") from error

    async def finish(self) -> None:
        """Close for writing; the peer sees the end after everything that was sent. Idempotent."""
        await self._net.close()

    async def reset(self) -> None:
        """End both directions at once. Idempotent, never waits for the peer, not interrupted by cancellation."""
        with trio.CancelScope(shield=True):
            await self._net.reset()

    async def _read_some(self, max_bytes: int, deadline: float) -> bytes:
        try:
            with trio.fail_after(deadline):
                data: bytes = await self._muxed.read(max_bytes)
                return data
        except MuxedStreamError as error:
            raise StreamEnded("the stream from the peer ended") from error
        except trio.TooSlowError as error:
            await self.reset()
            raise StreamStalled("the peer sent nothing in time") from error
