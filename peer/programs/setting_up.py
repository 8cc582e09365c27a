"""The daemon of a machine that has not signed in yet: it serves the page that leads through that.

It then leaves its port to the node, so that pages that are open go on where they are.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

import structlog
import trio

from peer.api.setting_up import BeforeSignIn
from peer.machine import identity
from peer.machine.state_folder import StateFolder
from peer.machine.supervision import supervise
from peer.programs.serving import announced, listen_on, new_token, serve

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 2.0
"""How often it looks for an identity of which nobody told it: one that was put there from a backup, say."""


async def until_signed_in(
    folder: StateFolder, *, port: int | None, report: Callable[[str], None], ready: Callable[[int], None]
) -> socket.socket:
    """Serve the set-up until this machine has an identity; return the listening socket, for the node.

    The caller holds the folder's lock. `ready` is called with the port once it serves; `report` as of `served`.
    Raises Invalid (config.json), Unavailable.
    """
    setup = BeforeSignIn(folder)
    listener = listen_on(setup.current.port if port is None else port, report)
    try:
        setup.port = listener.getsockname()[1]
        token = new_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise, "page's sign-in", setup.flow.run)
            # It closes what it serves when it ends; connections that come meanwhile wait for the node.
            await nursery.start(serve, setup.application(token), listener.dup())
            with announced(folder, setup.port, token, hosted_by="daemon"):
                ready(setup.port)
                while not identity.exists(folder):
                    setup.looked = trio.Event()
                    with trio.move_on_after(LOOK_SECONDS):
                        await setup.looked.wait()
            log.info("daemon.signed_in")
            nursery.cancel_scope.cancel()
    except BaseException:
        listener.close()
        raise
    return listener
