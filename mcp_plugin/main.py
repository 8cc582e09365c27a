"""`dispatch-mcp`: one session's MCP server on standard input and output, until either side ends it. No tools here."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator, MutableMapping

import trio

from mcp_plugin.hosting import Hosting
from mcp_plugin.session import Session
from mcp_plugin.transport import Wire
from peer.protocol.errors import DispatchError
from peer.state_folder import StateFolder
from peer.version import VERSION

SECRETS_OF_A_SESSION = ("CLAUDE", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS")
"""Beginnings of variables by which a host lets its own programs speak for it: CLAUDE_CODE_MESSAGING_SOCKET and
_TOKEN, CLAUDE_CODE_OAUTH_TOKEN, … Nothing that is started from here is to have them, and nothing here needs them."""
KEPT = ("CLAUDE_CONFIG_DIR",)
"""Where the person's MCP servers are configured; a folder, no secret."""

END_SECONDS = 0.4
"""Hosts kill after half a second. What is not tidied up by then is left to the journal: every state is durable."""


def main() -> None:
    """Serve MCP on standard input and output. Takes no arguments but --version and --help."""
    if sys.argv[1:]:
        _say_about(sys.argv[1:])
        return
    scrub(os.environ)
    try:
        folder = StateFolder.locate()
        wire = Wire.claim()
    except (DispatchError, OSError) as error:
        fix = f"\nfix: {error.fix}" if isinstance(error, DispatchError) else ""
        print(f"dispatch-mcp: {error}{fix}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    try:
        trio.run(serve, folder, wire)
    finally:
        # Not by way of the interpreter's own end: a thread may still be importing the node, and no host waits for it.
        sys.stderr.flush()
        os._exit(0)


async def serve(folder: StateFolder, wire: Wire) -> None:
    """Serve one session until its host closes the wire or a signal comes."""
    from mcp_plugin import server  # the SDK: most of a second

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            hosting = Hosting(folder, wire.answered)
            nursery.start_soon(_stop_at, signals, nursery.cancel_scope)
            nursery.start_soon(hosting.run)
            try:
                await server.run(wire, Session(folder, hosting))
            finally:
                _end_soon()
                nursery.cancel_scope.cancel()


async def _stop_at(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        _end_soon()
        scope.cancel()
        return


def _end_soon() -> None:
    """End the process soon, however long its parts take to end."""
    timer = threading.Timer(END_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


def scrub(environment: MutableMapping[str, str]) -> None:
    """Take the session's secrets out of an environment."""
    for name in list(_secrets(environment)):
        del environment[name]


def _secrets(environment: MutableMapping[str, str]) -> Iterator[str]:
    return (name for name in environment if name.startswith(SECRETS_OF_A_SESSION) and name not in KEPT)


def _say_about(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        print(f"dispatch-mcp, version {VERSION}")  # noqa: T201
        return
    usage = (
        "Usage: dispatch-mcp\n\nSpeaks MCP on standard input and output; an agent's program starts it, people do not."
    )
    if arguments in (["--help"], ["-h"]):
        print(usage)  # noqa: T201
        return
    print(usage, file=sys.stderr)  # noqa: T201
    sys.exit(2)


if __name__ == "__main__":
    main()
