"""A client's connection to the proxy: HTTP/1.1 by h11 on trio, every wait and size bounded. Knows nothing of models."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

import h11
import trio

from sandbox.errors import SandboxError
from sandbox.model_api.interface import Refused


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """Bounds of one proxy: bytes, counts and seconds. 32 MB is the Anthropic API's own bound of a request."""

    request_bytes: int = 32 * 1024 * 1024
    response_bytes: int = 64 * 1024 * 1024
    connections: int = 32
    concurrent_requests: int = 8
    header_seconds: float = 300.0  # also how long an idle kept-alive connection stays
    body_seconds: float = 60.0
    request_seconds: float = 900.0
    silence_seconds: float = 300.0
    client_seconds: float = 60.0
    least_wait_seconds: float = 1.0  # before a request is repeated, whatever the API says


class ClientConnection:
    """One client's connection. Waits raise trio.TooSlowError beyond their bounds."""

    def __init__(self, stream: trio.SocketStream, limits: ProxyLimits) -> None:
        self._stream = stream
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=64 * 1024)

    @property
    def answering(self) -> bool:
        """Whether an answer has begun."""
        return self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    def next(self) -> bool:
        """Make ready for another request on this connection, if it can have one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def left(self) -> None:
        """Return once the client has left, or sends what it must not send before it has its answer."""
        await trio.lowlevel.wait_readable(self._stream.socket.fileno())

    async def request(self) -> h11.Request | None:
        """The next request's head; None when there is none."""
        with trio.fail_after(self._limits.header_seconds):
            event = await self._event()
        return event if isinstance(event, h11.Request) else None

    async def body(self) -> bytes:
        """The body of the request. Raises Refused 413; trio.BrokenResourceError when the client leaves early."""
        parts: list[bytes] = []
        size = 0
        with trio.fail_after(self._limits.body_seconds):
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            while isinstance(event := await self._event(), h11.Data):
                size += len(event.data)
                if size > self._limits.request_bytes:
                    raise Refused(413, f"the request is over {self._limits.request_bytes} bytes")
                parts.append(bytes(event.data))
        if not isinstance(event, h11.EndOfMessage):
            raise trio.BrokenResourceError("the client left")
        return b"".join(parts)

    async def answer(self, status: int, body: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        """Send a whole answer; the connection ends after it when the request was not read to its end."""
        every = [("content-type", "application/json"), ("content-length", str(len(body))), *(headers or [])]
        if self._http.their_state is not h11.DONE:
            every.append(("connection", "close"))
        await self.start(status, every)
        await self.data(body)
        await self.end()

    async def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Begin an answer. `data` and `end` send the rest."""
        await self._send(h11.Response(status_code=status, headers=headers))

    async def data(self, chunk: bytes) -> None:
        await self._send(h11.Data(data=chunk))

    async def end(self) -> None:
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            with trio.fail_after(self._limits.client_seconds):
                await self._stream.send_all(data)

    async def _event(self) -> h11.Event | None:
        """The next event; None where the client sends more than one request at a time."""
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Event):
                return event
            if event is h11.PAUSED:
                return None
            self._http.receive_data(await self._stream.receive_some(64 * 1024))


def listen(path: Path) -> trio.SocketListener:
    """A unix socket at `path`, 0600. OSError where something is there already."""
    # A socket's name has 108 bytes at most, which run folders exceed; a name through the folder's descriptor is short.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        name = f"/proc/self/fd/{folder}/{path.name}"
        old = os.umask(0o177)
        try:
            listening.bind(name)
        finally:
            os.umask(old)
        if stat.S_IMODE(path.lstat().st_mode) & 0o077:
            raise SandboxError(f"{path} would be open to other users")
        listening.listen(16)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(folder)
    listening.setblocking(False)
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))
