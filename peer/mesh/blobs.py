"""Transfer of files by digest between devices: authorised by a callback, resumable, verified. Not what they are for.

`/dispatch/blob/1`: the client opens one stream per blob. All control is CBOR in varint-length frames:
    client:  [statement id (16 bytes), SHA-256 (32 bytes), offset]
    server:  [code, size of the whole blob, message, fix]     any code but 200 is a refusal and ends the stream
    server:  size - offset raw bytes
    server:  [size]                                           the end marker
Only the digest over the whole blob proves it right; size and end marker merely detect errors early.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog
import trio

from peer.mesh.guards.yamux_header import MAX_FRAME_PAYLOAD
from peer.mesh.host import MeshHost
from peer.mesh.streams import Stream
from peer.protocol import codec
from peer.protocol.errors import NO_FIX, Conflict, DispatchError, Invalid, NotFound
from peer.protocol.frames import frame

log = structlog.get_logger(__name__)

BLOB = "/dispatch/blob/1"
PIECE = 16 * MAX_FRAME_PAYLOAD
"""Bytes read from disk, or written to it, at once: about a MiB, in whole frames."""
AT_ONCE = 64
"""Chunks that are written together; the system takes up to 1024."""
MAX_REQUEST = 128
MAX_REPLY = 8 * 1024
MAX_TEXT = 1000


class Refused(DispatchError):
    """The other machine does not give out a file. `theirs` is its own text, to be shown as a quotation if at all."""

    def __init__(self, code: int, theirs: str) -> None:
        super().__init__(f"the other machine refused it ({code})", fix=NO_FIX, code=code)
        self.theirs = theirs


Lookup = Callable[[str, bytes, bytes], Awaitable[Path | None]]


@dataclass(frozen=True, kw_only=True)
class BlobLimits:
    """Times in seconds."""

    request: float = 30.0
    """For the request to arrive, and for its reply."""
    piece: float = 60.0
    """For one piece of 1 MiB: below 18 kB/s the transfer counts as stalled."""
    streams_per_peer: int = 16
    """Twice what a client opens at once, because streams from before a reconnect may linger."""


# --- serving


def serve(host: MeshHost, lookup: Lookup, *, limits: BlobLimits | None = None) -> None:
    """Serve blobs on `host`.

    `lookup(peer_id, statement_id, digest)` returns the file of a blob that this statement entitles the peer to, or None
    (the peer gets 404); a DispatchError that it raises is sent to the peer unchanged.
    """
    bounds = limits or BlobLimits()
    busy: Counter[str] = Counter()

    async def serve_one(stream: Stream) -> None:
        if busy[stream.peer_id] >= bounds.streams_per_peer:
            await _refuse(stream, 503, "too many transfers at once", "fetch one file after the other", bounds)
            return
        busy[stream.peer_id] += 1
        try:
            await _serve_blob(stream, lookup, bounds)
        finally:
            busy[stream.peer_id] -= 1
            if not busy[stream.peer_id]:
                del busy[stream.peer_id]

    host.handle(BLOB, serve_one)


async def _serve_blob(stream: Stream, lookup: Lookup, limits: BlobLimits) -> None:
    match await stream.receive(max_bytes=MAX_REQUEST, deadline=limits.request):
        case [bytes(statement_id), bytes(digest), int(offset)] if len(statement_id) == 16 and len(digest) == 32:
            pass
        case _:
            await _refuse(stream, 422, "that is not a blob request", "update dispatch on the other machine", limits)
            return
    try:
        path = await lookup(stream.peer_id, statement_id, digest)
        if path is None:
            raise NotFound("no such file for this device", fix="ask the sender to send it again")
        file, size, piece = await trio.to_thread.run_sync(_open, path, offset)
    except DispatchError as error:
        await _refuse(stream, error.code, error.message, error.fix, limits)
        return
    except OSError as error:
        log.error("blob.unreadable", error=errno.errorcode.get(error.errno or 0, "?"))
        await _refuse(stream, 503, "the file cannot be read now", "it will be fetched again automatically", limits)
        return
    with file:
        if not 0 <= offset <= size:
            await _refuse(
                stream,
                416,
                "the file is shorter than the part fetched already",
                "fetch it again from the start",
                limits,
            )
            return
        await stream.send([200, size, "", ""], deadline=limits.request)
        left = size - offset
        while left:
            if not piece:
                raise Invalid(
                    "a blob became shorter while it was read",
                    fix="run `dispatch doctor`: something else changed a file of the state folder",
                )
            piece = piece[:left]
            await stream.write(piece, deadline=limits.piece)
            left -= len(piece)
            if left:
                piece = await trio.to_thread.run_sync(file.read, PIECE)
        await stream.send([size], deadline=limits.piece)


def _open(path: Path, offset: int) -> tuple[BinaryIO, int, bytes]:
    """Return the open file, its size, and its first piece from `offset` on, if that is inside of it."""
    file = path.open("rb", buffering=0)
    try:
        size = os.fstat(file.fileno()).st_size
        if not 0 <= offset <= size:
            return file, size, b""
        file.seek(offset)
        return file, size, file.read(PIECE)
    except BaseException:
        file.close()
        raise


async def _refuse(stream: Stream, code: int, message: str, fix: str, limits: BlobLimits) -> None:
    await stream.send([code, 0, message[:MAX_TEXT], fix[:MAX_TEXT]], deadline=limits.request)


# --- fetching


async def fetch(
    host: MeshHost,
    peer_id: str,
    *,
    statement_id: bytes,
    digest: bytes,
    size: int,
    destination: Path,
    limits: BlobLimits | None = None,
) -> None:
    """Fetch one blob into `destination`, which appears whole, verified and fsynced, or not. Raises as `fetch_part`."""
    path = destination.with_name(destination.name + ".part")
    part = await fetch_part(
        host, peer_id, statement_id=statement_id, digest=digest, size=size, path=path, limits=limits
    )
    try:
        await trio.to_thread.run_sync(part.commit, destination)
    finally:
        part.close()


async def fetch_part(
    host: MeshHost,
    peer_id: str,
    *,
    statement_id: bytes,
    digest: bytes,
    size: int,
    path: Path,
    prepare: Callable[[], object] = lambda: None,
    on_last_piece: Callable[[], object] = lambda: None,
    limits: BlobLimits | None = None,
) -> Part:
    """Fetch one blob from a connected peer into the file `path` (0600); return that, whole and verified.

    Its caller commits it, in a thread, and closes it: until then nothing is durable. When a transfer breaks off, the
    bytes so far stay in the file, and the next call continues from there. Raises Refused with the peer's code (404,
    403, …), Unavailable if the transfer breaks off (call again), Invalid if the bytes do not match the digest (the
    file is deleted), Conflict if another call is fetching it, OSError. `prepare` is called in a thread before all, to
    make the folder; `on_last_piece` as soon as no more than one piece is missing, so that another transfer can begin
    while this one ends.
    """

    def opened() -> Part:
        prepare()
        return Part(path, size)

    part = await trio.to_thread.run_sync(opened)
    try:
        request = frame(codec.encode([statement_id, digest, part.offset]))
        stream = await host.open_stream(peer_id, BLOB, opening=request)
        try:
            await _pull(stream, part, size, on_last_piece, limits or BlobLimits())
        finally:
            await stream.reset()
        if part.digest() != digest:
            part.remove()
            raise Invalid(
                "the file that arrived is not the one that was announced", fix="ask the sender to send it again"
            )
    except BaseException:
        part.close()
        raise
    return part


async def _pull(stream: Stream, part: Part, size: int, on_last_piece: Callable[[], object], limits: BlobLimits) -> None:
    match await stream.receive(max_bytes=MAX_REPLY, deadline=limits.request):
        case [200, int(their_size), str(), str()]:
            if their_size != size:
                raise Invalid(f"the other side has {their_size} bytes; {size} were announced", fix=NO_FIX)
        case [int(code), int(), str(message), str()]:
            raise Refused(code, message[:MAX_TEXT])
        case _:
            raise Invalid("that is not a reply to a blob request", fix=NO_FIX)
    failed: list[OSError] = []
    outgoing, incoming = trio.open_memory_channel[list[bytes]](1)
    async with trio.open_nursery() as nursery:

        async def store() -> None:
            """Hash and write one piece in a thread while the next one arrives."""
            try:
                async for piece in incoming:
                    await trio.to_thread.run_sync(part.append, piece)
            except OSError as error:
                failed.append(error)
                nursery.cancel_scope.cancel()

        nursery.start_soon(store)
        broken = await _receive_pieces(stream, outgoing, size - part.offset, on_last_piece, limits)
    if failed:
        raise failed[0]
    if broken is not None:
        raise broken
    if await stream.receive(max_bytes=MAX_REQUEST, deadline=limits.request) != [size]:
        raise Invalid("the file does not end where it was announced to", fix=NO_FIX)


async def _receive_pieces(
    stream: Stream,
    outgoing: trio.MemorySendChannel[list[bytes]],
    left: int,
    on_last_piece: Callable[[], object],
    limits: BlobLimits,
) -> DispatchError | None:
    """Receive `left` bytes and pass them on in pieces. On an error pass on the partial piece, then return the error."""
    async with outgoing:
        while left:
            piece: list[bytes] = []
            size = min(PIECE, left)
            if left == size:
                on_last_piece()
            try:
                await stream.gather(piece, size, deadline=limits.piece)
            except DispatchError as error:
                await outgoing.send(piece)
                return error
            await outgoing.send(piece)
            left -= size
    return None


class Part:
    """The file of a transfer. Blocking: call the constructor, `append` and `commit` in a thread."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        # O_NOFOLLOW: a symlink planted here must not redirect where a peer's bytes are written.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)
        self._hash = hashlib.sha256()
        self.offset = 0
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise Conflict("this file is being fetched already") from None
        if os.fstat(descriptor).st_size > size:
            self._file.truncate(0)
        while piece := self._file.read(PIECE):
            self._hash.update(piece)
            self.offset += len(piece)

    def append(self, piece: list[bytes]) -> None:
        """Hash and write the chunks of one piece."""
        for chunk in piece:
            self._hash.update(chunk)
        left = [memoryview(chunk) for chunk in piece]
        while left:
            written = os.writev(self._file.fileno(), left[:AT_ONCE])
            self.offset += written
            while left and written >= left[0].nbytes:
                written -= left.pop(0).nbytes
            if written:
                left[0] = left[0][written:]

    def digest(self) -> bytes:
        """Return the SHA-256 of everything in the file."""
        return self._hash.digest()

    def remove(self) -> None:
        """Delete the file: nothing in it can be trusted."""
        self._path.unlink()

    def commit(self, destination: Path) -> None:
        """Make the file durable under its final name: after a crash it is there whole or not at all."""
        os.fsync(self._file.fileno())
        self._path.rename(destination)
        directory = os.open(destination.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        """Close the file and release its lock."""
        self._file.close()
