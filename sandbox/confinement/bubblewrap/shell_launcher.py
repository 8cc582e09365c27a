"""The program that an agent starts its shell commands by: it has each run in the shell zone, and ends as it ends.

Its source runs by itself in the agent's sandbox, with the standard library alone. The claude program gets it as
CLAUDE_CODE_SHELL_PREFIX. It hands working directory, environment and its three standard streams to zone_server.py over
a socket that exists in this sandbox alone, and passes signals on; when it is killed, the command is killed there. Any
step that fails ends it with status 126: never a shell outside the zone.
"""

import _socket
import os
import signal
import struct
import sys

SOCKET = "/run/dispatch/shells.sock"
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def _started() -> _socket.socket:
    """A connection on which a command was asked for.

    The request, as zone_server.py reads it from a pipe: "shell" or "program", the working directory, how many arguments
    follow, these, and the environment; each ends with a zero byte.
    """
    arguments = sys.argv[1:]
    kind = b"shell"
    if arguments[:1] == ["--exec"]:
        kind, arguments = b"program", arguments[1:]
    words = [kind, os.getcwdb(), b"%d" % len(arguments), *map(os.fsencode, arguments)]  # noqa: PTH109
    # Not the agent program's secret for the model proxy, nor the proxy's address.
    words += [b"%s=%s" % pair for pair in os.environb.items() if not pair[0].startswith(b"ANTHROPIC_")]
    zone = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    zone.connect(SOCKET)
    reading, writing = os.pipe()
    descriptors = struct.pack("4i", 0, 1, 2, reading)
    zone.sendmsg([b"start"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, descriptors)])
    os.close(reading)
    with open(writing, "wb") as request:  # noqa: PTH123 - a descriptor
        request.write(b"".join(word + b"\0" for word in words))
    return zone


def main() -> None:
    """`launcher 'command'` runs it by bash; `launcher --exec program argument…` runs a program directly."""
    try:
        zone = _started()
        for number in _PASSED_ON:
            signal.signal(number, lambda number, _frame: zone.send(bytes([number])))
        answer = zone.recv(4)
        if len(answer) != 4:
            raise EOFError("the shell zone did not run it")
    except Exception as problem:
        sys.stderr.write(f"this shell could not be confined: {problem!r}\n")
        sys.exit(126)
    (status,) = struct.unpack("!i", answer)
    if status < 0:
        if -status in _PASSED_ON:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
        sys.exit(128 - status)
    # Without the interpreter's own end, which takes longer than most commands.
    os._exit(status)


if __name__ == "__main__":
    main()
