"""Which node the tools of this session use: a running one, or one that the session starts. No tools here.

The state folder's lock decides: the process that gets it hosts the node, every other one attaches through the loopback
API. When that process ends, each of the others tries the lock, and one gets it. The tools always use the API, also
with a node of their own session.
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress

import trio

from peer.client import sign_in
from peer.client.blocking import Daemon, DaemonUnreachable, SignIn, look_for_daemon
from peer.client.on_trio import AsyncClient
from peer.machine import identity
from peer.machine.lock import AlreadyRunning
from peer.machine.state_folder import StateFolder
from peer.programs import session_node
from peer.protocol.errors import DispatchError, Internal, NotSignedIn, Unavailable

READY_SECONDS = 20.0
"""How long a tool call waits for the node, which takes up to three seconds to start on an idle machine."""
LOOK_SECONDS = 0.05
"""Between looks at a node that is about to serve, or whose process has just ended; the system reports neither."""
NOTICED_SECONDS = 0.1
"""Time in which `run` notices the end of a node's process."""
GONE_SECONDS = 1.0
"""Between looks at whether an attached node still serves, for a process that goes on without its node."""
RETRY_SECONDS = 30.0
"""Until the next try after hosting failed and no tool call asks: a person may have signed in or freed space."""
STEADY_SECONDS = 10.0
"""A node that ran this long did not end because of a faulty start."""
DAEMON_SECONDS = 5.0
"""How long a daemon that ended may take to come back before a session hosts the node: it may be restarting."""


class Hosting:
    """Keeps one node reachable while `run` runs. `ready` returns the client, or raises why there is none."""

    def __init__(self, folder: StateFolder, begin: trio.Event) -> None:
        """`begin`: set once the host has its first answer, which a node that is loading would delay on one core."""
        self._folder = folder
        self._begin = begin
        self._client = _Client(folder, self)
        self._up = False
        self._failure: DispatchError | None = None
        self._short_lives = 0
        """How many nodes of this session in a row ended soon after their start."""
        self._changed = trio.Event()
        self._asked = trio.Event()

    async def ready(self) -> AsyncClient:
        """Wait for the node and return its client. Raises NotSignedIn, Unavailable or what hosting failed with."""
        self._begin.set()  # a host may call a tool without a handshake
        if not self._up and self._failure is not None:
            self._failure = None  # a tool call triggers another try
            self._asked.set()
        with trio.move_on_after(READY_SECONDS):
            while not self._up:
                if self._failure is not None:
                    raise self._failure
                await self._changed.wait()
            return self._client
        raise Unavailable(
            "the dispatch node has not started yet",
            fix="try again; if it keeps failing, look at daemon.log in the state folder",
        )

    async def wait_for_next(self) -> None:
        """Wait for the node after a request reached none; a node that ends deletes its files before it stops."""
        await trio.sleep(NOTICED_SECONDS)
        with trio.move_on_after(READY_SECONDS):
            while self._up:
                with suppress(DaemonUnreachable):
                    look_for_daemon(self._folder)
                    return
                await trio.sleep(LOOK_SECONDS)
        await self.ready()

    async def run(self) -> None:
        """Host the node or attach to it, again after each end, until cancelled."""
        await self._begin.wait()
        while True:
            try:
                await self._once()
            except DispatchError as error:
                failure = error
            except Exception as error:
                # The session goes on without the node, so that its tools can report the failure.
                with suppress(OSError, ValueError):  # standard error may be closed
                    traceback.print_exception(error, file=sys.stderr)
                failure = Internal("the dispatch node of this session failed")
            else:
                continue
            self._set_state(failure=failure)
            with trio.move_on_after(RETRY_SECONDS):
                await self._asked.wait()
            self._asked = trio.Event()

    async def _once(self) -> None:
        """Host the node, or attach to the process that does, until that ends."""
        if not await trio.to_thread.run_sync(identity.exists, self._folder):
            raise NotSignedIn(
                "this machine has not signed in yet", fix="run `dispatch login --broker URL` in a terminal"
            )
        try:
            async with session_node.hosted(self._folder) as node:
                self._set_state(up=True)
                began = trio.current_time()
                await node.wait()
        except AlreadyRunning:
            pass
        else:
            # A node that ran long is replaced at once, and so is the first one that did not.
            steady = trio.current_time() - began >= STEADY_SECONDS
            self._short_lives = 0 if steady else self._short_lives + 1
            if self._short_lives > 1:
                raise Internal("the dispatch node of this session keeps stopping")
        finally:
            self._set_state()
        await self._attached()

    async def _attached(self) -> None:
        """Attach to the node that holds the lock until it is gone; return soon if it does not serve yet."""
        try:
            daemon = look_for_daemon(self._folder)
        except DaemonUnreachable:
            await trio.sleep(LOOK_SECONDS)
            return
        self._set_state(up=True)
        try:
            await self._gone(daemon)
        finally:
            self._set_state()
        if daemon.hosted_by == "daemon":
            await self._comes_back()

    async def _gone(self, daemon: Daemon) -> None:
        """Wait until this node no longer serves."""
        while True:
            if await _ended(daemon.pid, within=GONE_SECONDS):
                return
            try:
                if look_for_daemon(self._folder) != daemon:
                    return
            except DispatchError:
                return

    async def _comes_back(self) -> None:
        """Wait for a daemon that has ended to be started again, at most DAEMON_SECONDS."""
        with trio.move_on_after(DAEMON_SECONDS):
            while True:
                with suppress(DispatchError):
                    look_for_daemon(self._folder)
                    return
                await trio.sleep(LOOK_SECONDS)

    def _set_state(self, *, up: bool = False, failure: DispatchError | None = None) -> None:
        self._up, self._failure = up, failure
        self._changed.set()
        self._changed = trio.Event()


class _Client(AsyncClient):
    """The API's client; a request that reached no node, since one has just ended, is repeated once to the next."""

    def __init__(self, folder: StateFolder, hosting: Hosting) -> None:
        super().__init__(folder)
        self._hosting = hosting

    def sign_in(self) -> SignIn:
        """Return the sign-in that the session's variables name, as the command line does."""
        return sign_in.named(self._folder)

    async def _exchange(self, method: str, path: str, body: Mapping[str, object] | None) -> object:
        try:
            return await super()._exchange(method, path, body)
        except DaemonUnreachable:
            await self._hosting.wait_for_next()
            return await super()._exchange(method, path, body)


async def _ended(pid: int, *, within: float) -> bool:
    """Whether a process ends within so many seconds. On Linux returns as soon as it does, elsewhere at their end."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except (AttributeError, OSError):
        await trio.sleep(within)
        return False
    try:
        with trio.move_on_after(within):
            await trio.lowlevel.wait_readable(descriptor)
        return bool(select.select([descriptor], [], [], 0)[0])
    finally:
        os.close(descriptor)
