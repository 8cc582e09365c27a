"""Which node this session's tools speak with: a running one, or one of the session's own. No tools here.

The state folder's lock decides, never a look around: whoever gets it hosts, everybody else attaches through the
loopback API. When the host of the node ends, each of the others tries the lock, and one gets it. The tools always speak
with the API, also with a node of their own.
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress

import trio

from peer.client.blocking import Daemon, DaemonUnreachable, look_for_daemon
from peer.client.on_trio import AsyncClient
from peer.machine import identity
from peer.machine.lock import AlreadyRunning
from peer.machine.state_folder import StateFolder
from peer.programs import session_node
from peer.protocol.errors import DispatchError, Internal, NotSignedIn, Unavailable

READY_SECONDS = 20.0
"""How long a tool call waits for the node: it is there within three, on a machine that has nothing else to do."""
LOOK_SECONDS = 0.05
"""Between looks at a node that is about to serve, or whose process has just ended; no event announces either."""
NOTICED_SECONDS = 0.1
"""After which the end of a node's process has been noticed here too."""
GONE_SECONDS = 1.0
"""Between looks at whether an attached node still serves, for those whose process lives on without it."""
RETRY_SECONDS = 30.0
"""Until the next try where hosting failed and no tool asks: somebody may have signed in, or freed a disk."""
STEADY_SECONDS = 10.0
"""A node that lived so long did not end because of how it began."""
DAEMON_SECONDS = 5.0
"""How long a daemon that ended has to come back before a session takes its place: it may only be restarted."""


class Hosting:
    """Keeps one node reachable while it runs. `ready` gives the client, or says why there is none."""

    def __init__(self, folder: StateFolder, begin: trio.Event) -> None:
        """`begin` is set with the host's first answer on the wire: on one core, a loading node would hold that up."""
        self._folder = folder
        self._begin = begin
        self._client = _Client(folder, self)
        self._up = False
        self._failure: DispatchError | None = None
        self._short_lives = 0
        """Nodes of this session that ended one after the other soon after they began."""
        self._changed = trio.Event()
        self._asked = trio.Event()

    async def ready(self) -> AsyncClient:
        """Wait for the node and return its client. Raises why there is none: NotSignedIn, Unavailable, …"""
        self._begin.set()  # a host may well begin with a call
        if not self._up and self._failure is not None:
            self._failure = None  # this caller asks for another try
            self._asked.set()
        with trio.move_on_after(READY_SECONDS):
            while not self._up:
                if self._failure is not None:
                    raise self._failure
                await self._changed.wait()
            return self._client
        raise Unavailable("the node is not up yet", fix="try again; look at daemon.log in the state folder")

    async def again(self) -> None:
        """Wait for the node after a request that reached none: one that ends takes its files away first."""
        await trio.sleep(NOTICED_SECONDS)
        with trio.move_on_after(READY_SECONDS):
            while self._up:
                with suppress(DaemonUnreachable):
                    look_for_daemon(self._folder)
                    return
                await trio.sleep(LOOK_SECONDS)
        await self.ready()

    async def run(self) -> None:
        """Host or attach, over and over."""
        await self._begin.wait()
        while True:
            try:
                await self._once()
            except DispatchError as error:
                failure = error
            except Exception as error:
                # Whatever becomes of the node, the session goes on and can say so.
                with suppress(OSError, ValueError):  # nobody reads standard error any more
                    traceback.print_exception(error, file=sys.stderr)
                failure = Internal("the node of this session failed")
            else:
                continue
            self._say(failure=failure)
            with trio.move_on_after(RETRY_SECONDS):
                await self._asked.wait()
            self._asked = trio.Event()

    async def _once(self) -> None:
        """Host the node, or attach to whoever does, until that ends."""
        if not await trio.to_thread.run_sync(identity.exists, self._folder):
            raise NotSignedIn(
                "this machine has not signed in yet", fix="run `dispatch login --broker URL` in a terminal"
            )
        try:
            async with session_node.hosted(self._folder) as node:
                self._say(up=True)
                began = trio.current_time()
                await node.wait()
        except AlreadyRunning:
            pass
        else:
            # One that lived long is replaced at once, and so is the first that did not.
            steady = trio.current_time() - began >= STEADY_SECONDS
            self._short_lives = 0 if steady else self._short_lives + 1
            if self._short_lives > 1:
                raise Internal("the node of this session ends again and again")
        finally:
            self._say()
        await self._attached()

    async def _attached(self) -> None:
        """Attach to the node that holds the lock, until it is gone; return at once where it does not serve yet."""
        try:
            daemon = look_for_daemon(self._folder)
        except DaemonUnreachable:
            await trio.sleep(LOOK_SECONDS)
            return
        self._say(up=True)
        try:
            await self._gone(daemon)
        finally:
            self._say()
        if daemon.hosted_by == "daemon":
            await self._comes_back()

    async def _gone(self, daemon: Daemon) -> None:
        """Wait until this very node serves no more."""
        while True:
            if await _ended(daemon.pid, within=GONE_SECONDS):
                return
            try:
                if look_for_daemon(self._folder) != daemon:
                    return
            except DispatchError:
                return

    async def _comes_back(self) -> None:
        """Give a daemon that has ended the time to be started again."""
        with trio.move_on_after(DAEMON_SECONDS):
            while True:
                with suppress(DispatchError):
                    look_for_daemon(self._folder)
                    return
                await trio.sleep(LOOK_SECONDS)

    def _say(self, *, up: bool = False, failure: DispatchError | None = None) -> None:
        self._up, self._failure = up, failure
        self._changed.set()
        self._changed = trio.Event()


class _Client(AsyncClient):
    """The API's client; a request that reached no node, as one has just ended, is made once more to the next."""

    def __init__(self, folder: StateFolder, hosting: Hosting) -> None:
        super().__init__(folder)
        self._hosting = hosting

    async def _exchange(self, method: str, path: str, body: Mapping[str, object] | None) -> object:
        try:
            return await super()._exchange(method, path, body)
        except DaemonUnreachable:
            await self._hosting.again()
            return await super()._exchange(method, path, body)


async def _ended(pid: int, *, within: float) -> bool:
    """Whether a process ends within so many seconds: at once when it does on Linux, at their end elsewhere."""
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
