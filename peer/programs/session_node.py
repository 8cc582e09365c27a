"""The node of an agent's session: a separate process that ends with the session. The daemon: daemon.py.

Why a process: it loads on another core while the session loads the MCP SDK, the session's work does not delay it, and
the process that talks to the host holds no key. `hosted` starts one; `python -m peer.programs.session_node` is its
program, with the daemon's lock and API. Its standard input is a socket to the session, and it ends when that closes,
which happens however the session ends.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from peer.machine.lock import AlreadyRunning, state_lock
from peer.machine.state_folder import StateFolder
from peer.programs import preflight
from peer.protocol.errors import DispatchError, Internal, Unavailable, from_code, root_of

START_SECONDS = 60.0
"""Longest wait for a new node to serve. It takes two seconds on an idle machine."""
END_SECONDS = 0.35
"""Hosts give their programs half a second to exit. Unfinished clean-up is safe: every state is durable, and the next
start repairs the rest."""
FAREWELL_SECONDS = 0.15
"""Part of END_SECONDS for the broker. An announcement that is not withdrawn expires within two hours."""
MAX_REPORT = 16 * 1024
"""Bytes of a node's one report: `{}` when it serves, or {held, error: {code, message, fix}} when it cannot."""


@asynccontextmanager
async def hosted(folder: StateFolder) -> AsyncIterator[trio.Process]:
    """Run a state folder's node in a process while the block runs; callers use its API.

    Yields the node's process, which may end before the block does. Raises AlreadyRunning if another process is the
    node, whatever `preflight` raises, and Unavailable, Conflict or Internal for a node that cannot serve.
    """
    with state_lock(folder):
        pass  # the process takes the lock itself; this only fails early if another holds it
    ours, theirs = socket.socketpair()
    channel = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    async with channel:
        with theirs:
            # -P: never import modules from the session's working folder.
            process = await trio.lowlevel.open_process(
                [sys.executable, "-P", "-X", "utf8", "-m", "peer.programs.session_node"],
                stdin=theirs,
                stdout=2,
                env=os.environ | {"DISPATCH_HOME": str(folder.path)},
                start_new_session=True,  # Ctrl-C must reach the session only; the node ends when the session does
            )
        serving = False
        try:
            await _wait_until_serving(channel)
            serving = True
            yield process
        finally:
            if not serving:
                process.kill()  # not serving yet, so there is nothing to clean up
            with trio.CancelScope(shield=True):
                await channel.aclose()
                with trio.move_on_after(END_SECONDS):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _wait_until_serving(channel: trio.SocketStream) -> None:
    """Wait for the node's report. Raises the error in it, Internal if the node ended, Unavailable on timeout."""
    received = b""
    with trio.move_on_after(START_SECONDS):
        while b"\n" not in received and len(received) < MAX_REPORT:
            try:
                piece = await channel.receive_some(MAX_REPORT)
            except trio.BrokenResourceError:
                piece = b""
            if not piece:
                raise Internal("the node of this session ended before it was ready")
            received += piece
        document = json.loads(received)
        if error := document.get("error"):
            raise AlreadyRunning(error["message"], fix=error["fix"]) if document["held"] else from_code(**error)
        return
    raise Unavailable("the node of this session did not start", fix="look at daemon.log in the state folder")


# --- the process of the node


def main() -> None:
    """Run the node until standard input is closed or a signal arrives."""
    session = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        trio.run(_serve, StateFolder.locate(), session)
    except* DispatchError as group:
        error = root_of(group)
        assert isinstance(error, DispatchError)
        _report(session, {"held": isinstance(error, AlreadyRunning), "error": error.to_json()})
        sys.exit(1)


async def _serve(folder: StateFolder, session: socket.socket) -> None:
    with state_lock(folder), trio.CancelScope() as scope:
        token = trio.lowlevel.current_trio_token()
        threading.Thread(target=_end_with, args=(session, token, scope), daemon=True).start()
        preflight.check(folder)
        # Imported after the thread started: this takes over a second, and the session may end meanwhile.
        from peer.machine.log_file import set_up_logging
        from peer.programs import serving

        set_up_logging(folder)

        async with serving.served(folder, hosted_by="session", farewell_seconds=FAREWELL_SECONDS):
            _report(session, {})
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    return


def _end_with(session: socket.socket, token: trio.lowlevel.TrioToken, scope: trio.CancelScope) -> None:
    """Wait for the end of the session, then stop the node, and exit after END_SECONDS whatever still runs."""
    with suppress(OSError):
        session.recv(1)
    timer = threading.Timer(END_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(scope.cancel)


def _report(session: socket.socket, document: dict[str, object]) -> None:
    with suppress(OSError):  # the session has ended; the thread handles that
        session.sendall(json.dumps(document).encode() + b"\n")


if __name__ == "__main__":
    main()
