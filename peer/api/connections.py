"""The loopback port's connections: how many at once, of whom, and when one ends. Who may call: page/guard.py.

Hypercorn's own loop accepts without limit, and any user of this machine can connect to a loopback port, which would use
up the file descriptors that peers, files and the store need, or the places that this user's own programs need. It also
speaks HTTP/2 to whoever begins with its preface, before anything has checked who calls.
"""

from __future__ import annotations

import os
import socket
from typing import Any, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from peer.api.local_users import Places, UidOf, can_look_up, uid_of_peer

MAX_CONNECTIONS = 256
"""A quarter of the usual 1,024 descriptors. A browser uses six for all tabs, a session or command one or two."""
FOR_OTHER_USERS = 32
FOR_ONE_OTHER_USER = 8
"""Of the places above; and of a network namespace or sandbox, whose user the kernel does not name, all together."""


class _Connection(TCPServer):
    """A connection in HTTP/1.1 alone that ends when its client closes it.

    Hypercorn's own waits for the idle timeout then, and goes over to HTTP/2 when the client asks it to.
    """

    async def _read_data(self) -> None:
        http1 = cast(H11Protocol, self.protocol.protocol)
        http1._check_protocol = _refuse_other_versions  # type: ignore[assignment]  # it looks at no self
        try:
            await super()._read_data()
        except _OtherVersion:
            await self.protocol.handle(Closed())
        await self.idle_task.stop()


class _OtherVersion(Exception):
    """The client speaks another HTTP than 1.1."""


async def _refuse_other_versions(request: h11.Request) -> None:
    # h11 reads the preface of HTTP/2 as a request of version 2.0. An `Upgrade: h2c` is ignored (RFC 9110, 7.8).
    if request.http_version not in (b"1.0", b"1.1"):
        raise _OtherVersion


async def serve_at_most(
    most: int,
    app: AppWrapper,
    config: Config,
    listener: socket.socket,
    *,
    uid_of: UidOf | None = None,
    task_status: Any = trio.TASK_STATUS_IGNORED,  # trio-stubs lack trio.TaskStatus
) -> None:
    """Serve a listening IPv4 socket until cancelled. A connection without a place is closed without a response.

    There are `most` places, FOR_OTHER_USERS of which other users of this machine may hold. `uid_of` tells whose a
    connection is; as usual the kernel, where it can.
    """
    context = WorkerContext(None)
    own = os.geteuid()
    places = Places(most, own=own, for_others=FOR_OTHER_USERS, for_one_other=FOR_ONE_OTHER_USER)
    if uid_of is None and can_look_up():
        uid_of = uid_of_peer

    async def answer(stream: trio.SocketStream) -> None:
        uid = uid_of(stream.socket) if uid_of is not None else own
        if not places.take(uid):
            await trio.aclose_forcefully(stream)
            return
        try:
            # Its type names TLS streams only, but it takes both.
            await _Connection(app, config, context, ConnectionState({}), cast(trio.SSLStream, stream))
        finally:
            places.give_back(uid)

    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    await trio.serve_listeners(answer, [accepting], task_status=task_status)
