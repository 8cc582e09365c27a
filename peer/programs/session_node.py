"""The node of an agent's session: a process beside the session's, which ends with it. The daemon: daemon.py.

A process of its own loads while the session loads the MCP SDK, each on a core, and is not held up by what the session
does; and whoever speaks with the host holds no key. `hosted` starts one, `python -m peer.programs.session_node`
is one: same lock and same API as the daemon's. It lives as long as the socket that is its standard input: however a
session ends, its end of that is closed.
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
"""Until a node that has not said that it serves is given up; two, on a machine that has nothing else to do."""
END_SECONDS = 0.35
"""Hosts give their programs half a second. What is not tidied up by then is left to the journal: every state is
durable."""
FAREWELL_SECONDS = 0.15
"""Of these, for the broker; what it is not told ends by itself within two hours."""
MAX_WORD = 16 * 1024
"""Bytes of what a node says once: `{}`, that it serves, or {held, error: {code, message, fix}}, why it does not."""


@asynccontextmanager
async def hosted(folder: StateFolder) -> AsyncIterator[trio.Process]:
    """Have a node of a state folder while the block runs; whoever wants something of it calls its API.

    Gives the node's process, which may end before the block does. Raises AlreadyRunning, which says who else is the
    node, what `preflight` finds, and Unavailable, Conflict and Internal for one that cannot serve.
    """
    with state_lock(folder):
        pass  # it takes the lock itself, but this is known at once where another has it
    ours, theirs = socket.socketpair()
    word = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    async with word:
        with theirs:
            # -P: what lies in the folder that a session works in is not ours to import.
            process = await trio.lowlevel.open_process(
                [sys.executable, "-P", "-m", "peer.programs.session_node"],
                stdin=theirs,
                stdout=2,
                env=os.environ | {"DISPATCH_HOME": str(folder.path)},
                start_new_session=True,  # a Ctrl-C is for the session, and reaches the node as its end
            )
        serves = False
        try:
            await _serves(word)
            serves = True
            yield process
        finally:
            if not serves:
                process.kill()  # there is nothing yet that it would have to tidy up
            with trio.CancelScope(shield=True):
                await word.aclose()
                with trio.move_on_after(END_SECONDS):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _serves(word: trio.SocketStream) -> None:
    """Wait until a node says that it serves; raise why it does not."""
    said = b""
    with trio.move_on_after(START_SECONDS):
        while b"\n" not in said and len(said) < MAX_WORD:
            try:
                piece = await word.receive_some(MAX_WORD)
            except trio.BrokenResourceError:
                piece = b""
            if not piece:
                raise Internal("the node of this session ended before it served")
            said += piece
        document = json.loads(said)
        if error := document.get("error"):
            raise AlreadyRunning(error["message"], fix=error["fix"]) if document["held"] else from_code(**error)
        return
    raise Unavailable("the node of this session does not come up", fix="look at daemon.log in the state folder")


# --- the process of the node


def main() -> None:
    """Be the node until standard input is closed, or a signal comes."""
    session = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    try:
        trio.run(_serve, StateFolder.locate(), session)
    except* DispatchError as group:
        error = root_of(group)
        assert isinstance(error, DispatchError)
        _say(session, {"held": isinstance(error, AlreadyRunning), "error": error.to_json()})
        sys.exit(1)


async def _serve(folder: StateFolder, session: socket.socket) -> None:
    with state_lock(folder), trio.CancelScope() as scope:
        token = trio.lowlevel.current_trio_token()
        threading.Thread(target=_end_with, args=(session, token, scope), daemon=True).start()
        preflight.check(folder)
        # More than a second, in which its thread sees the end of the session; which needs neither for its own part.
        from peer.machine.log_file import set_up_logging
        from peer.programs import serving

        set_up_logging(folder)

        async with serving.served(folder, hosted_by="session", farewell_seconds=FAREWELL_SECONDS):
            _say(session, {})
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    return


def _end_with(session: socket.socket, token: trio.lowlevel.TrioToken, scope: trio.CancelScope) -> None:
    """Wait for the end of the session, then end the node; and the process, however long the node's parts take."""
    with suppress(OSError):
        session.recv(1)
    timer = threading.Timer(END_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()
    with suppress(trio.RunFinishedError):
        token.run_sync_soon(scope.cancel)


def _say(session: socket.socket, document: dict[str, object]) -> None:
    with suppress(OSError):  # the thread sees that it ended
        session.sendall(json.dumps(document).encode() + b"\n")


if __name__ == "__main__":
    main()
