"""`dispatch-mcp`: the MCP server of one session; `announce` and `witness`: the hooks of the plugin. No tools here.

Every part is imported where it is run: the hooks are started at each of their events, and a session waits for them.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import suppress

from peer import VERSION
from peer.machine.state_folder import StateFolder
from peer.machine.text_encoding import use_utf8
from peer.protocol.errors import DispatchError

SECRETS_OF_A_SESSION = ("CLAUDE", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS")
"""Prefixes of variables by which a host authorises its own programs: CLAUDE_CODE_MESSAGING_SOCKET and _TOKEN,
CLAUDE_CODE_OAUTH_TOKEN, … Nothing here needs them, and no program started from here may have them."""
KEPT = ("CLAUDE_CONFIG_DIR",)
"""The folder in which the person's MCP servers are configured; no secret."""


USAGE = """\
Usage: dispatch-mcp [announce | witness]

Without a command: speaks MCP on standard input and output. Agent programs start it; people need not.

Commands, which the Claude Code plugin runs as its hooks and its monitor:
  announce --session-start  Print what waits for this person, as the answer to a SessionStart event.
  announce --follow         Print a line for each dispatch or call that begins to wait, until the session ends.
  witness --calling         Record what the picker asks; make the host ask about a call, unless the picker did.
  witness --picked          Record the answer that the person gave in the picker.
  witness --shell           Make the host ask before a shell command that makes a decision in dispatch.

Options:
  --version   Print the version.
  -h, --help  Print this.
"""


def main() -> None:
    """Run `dispatch-mcp` with the arguments of the process."""
    use_utf8()
    match sys.argv[1:]:
        case []:
            serve()
        case ["announce", ("--session-start" | "--follow") as option]:
            from mcp_plugin import announce

            announce.run(option)
        case ["witness", ("--picked" | "--calling" | "--shell") as option]:
            from mcp_plugin import witness

            witness.run(option)
        case ["--version"]:
            sys.stdout.write(f"dispatch-mcp, version {VERSION}\n")
        case ["--help" | "-h"] | ["announce" | "witness", "--help" | "-h"]:
            sys.stdout.write(USAGE)
        case _:
            sys.stderr.write(USAGE)
            sys.exit(2)


def serve() -> None:
    """Serve MCP on standard input and output until the host leaves or a signal comes; ends the process."""
    from mcp_plugin import handshake

    scrub(os.environ)
    _open_stderr()
    try:
        folder = StateFolder.locate()
        incoming, outgoing = handshake.claim_stdio()
    except (DispatchError, OSError) as error:
        fix = f"\nfix: {error.fix}" if isinstance(error, DispatchError) else ""
        sys.stderr.write(f"dispatch-mcp: {error}{fix}\n")
        sys.exit(1)
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: os._exit(0))  # nothing has been started that would need an orderly end
    try:
        first = handshake.answer_first(incoming, outgoing)
        if first.read:
            from mcp_plugin import serving  # loads trio: after the handshake, which the host waits for

            serving.run(folder, incoming, outgoing, first)
    except BaseException:
        with suppress(OSError, ValueError):
            traceback.print_exc()
        raise
    finally:
        # os._exit: a thread may still be importing the SDK, and the interpreter's own shutdown would wait for it.
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(0)


def _open_stderr() -> None:
    """Open the null device as standard error where the host gave none, so that descriptor 2 is never the protocol's."""
    try:
        os.fstat(2)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        if null != 2:
            os.close(null)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 for as long as the process lives


def scrub(environment: MutableMapping[str, str]) -> None:
    """Remove the session's secrets from an environment."""
    for name in list(_secrets(environment)):
        del environment[name]


def _secrets(environment: MutableMapping[str, str]) -> Iterator[str]:
    return (name for name in environment if name.startswith(SECRETS_OF_A_SESSION) and name not in KEPT)


if __name__ == "__main__":
    main()
