"""`dispatch-mcp`: one session's MCP server on standard input and output, until either side ends it. No tools here."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import suppress

from mcp_plugin import greeting
from peer.machine.state_folder import StateFolder
from peer.protocol.errors import DispatchError
from peer.version import VERSION

SECRETS_OF_A_SESSION = ("CLAUDE", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS")
"""Beginnings of variables by which a host lets its own programs speak for it: CLAUDE_CODE_MESSAGING_SOCKET and
_TOKEN, CLAUDE_CODE_OAUTH_TOKEN, … Nothing that is started from here is to have them, and nothing here needs them."""
KEPT = ("CLAUDE_CONFIG_DIR",)
"""Where the person's MCP servers are configured; a folder, no secret."""


def main() -> None:
    """Serve MCP on standard input and output. Takes no arguments but --version and --help."""
    if sys.argv[1:]:
        _say_about(sys.argv[1:])
        return
    scrub(os.environ)
    _open_stderr()
    try:
        folder = StateFolder.locate()
        incoming, outgoing = greeting.claim()
    except (DispatchError, OSError) as error:
        fix = f"\nfix: {error.fix}" if isinstance(error, DispatchError) else ""
        print(f"dispatch-mcp: {error}{fix}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: os._exit(0))  # nothing is begun yet that had to be ended
    try:
        begun = greeting.greet(incoming, outgoing)
        if begun.read:
            from mcp_plugin import serving  # trio and more, which no host waits for

            serving.run(folder, incoming, outgoing, begun)
    except BaseException:
        with suppress(OSError, ValueError):
            traceback.print_exc()
        raise
    finally:
        # Not by way of the interpreter's own end: a thread may still be importing the SDK, and no host waits for it.
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(0)


def _open_stderr() -> None:
    """Have a standard error also where the host gave none: what is said there must not come to be on the wire."""
    try:
        os.fstat(2)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        if null != 2:
            os.close(null)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 for as long as the process lives


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
