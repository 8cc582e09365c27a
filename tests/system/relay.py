"""Stands for a program that tests.system.preloaded forks, where only a command can be given: `relay.py ADDRESS MODULE`.

The program has this one's streams, environment and folder. Signals are passed on; it ends when the program does, and
as it did. Loads as little as it can.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    request = {
        "module": sys.argv[2],
        "arguments": sys.argv[3:],
        "environment": dict(os.environ),
        "cwd": os.getcwd(),  # noqa: PTH109 - pathlib would have to be loaded
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as preloader:
        preloader.connect(f"\0{sys.argv[1]}")
        socket.send_fds(preloader, [json.dumps(request).encode()], [0, 1, 2])
        pid = int(preloader.recv(100))
        for passed_on in (signal.SIGTERM, signal.SIGINT):
            signal.signal(passed_on, lambda number, _: os.kill(pid, number))
        for descriptor in (0, 1, 2):  # whoever waits for the end of a stream waits for the program's alone
            os.close(descriptor)
        status = int(preloader.recv(100) or -signal.SIGKILL)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    main()
