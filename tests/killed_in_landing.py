"""A daemon that is killed when a landing comes to the method of Lander that the first argument names.

For Person.launch(METHOD, *DAEMON, module="tests.killed_in_landing").
"""

from __future__ import annotations

import os
import signal
import sys
from unittest import mock

from peer.programs import daemon
from peer.runs.lander import Lander

DAEMON = ("--port", "0", "--listen", "/ip4/127.0.0.1/tcp/0")


async def _killed(*_arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    mock.patch.object(Lander, sys.argv.pop(1), _killed).start()
    daemon.main()
