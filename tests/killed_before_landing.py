"""A daemon that is killed when a landing has begun and nothing of it is in place.

For Person.launch(module="tests.killed_before_landing").
"""

from __future__ import annotations

import os
import signal
from unittest import mock

from peer.programs import daemon
from peer.runs.lander import Lander


async def _killed(*_arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    mock.patch.object(Lander, "_carry_out", _killed).start()
    daemon.main()
