"""`dispatch-daemon`: one node in the foreground, until a signal stops it."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import click
import trio

from peer import VERSION
from peer.machine import identity
from peer.machine.lock import state_lock
from peer.machine.log_file import set_up_logging
from peer.machine.standard_streams import open_closed_ones
from peer.machine.state_folder import StateFolder
from peer.machine.text_encoding import use_utf8
from peer.programs import preflight
from peer.protocol.errors import DispatchError, root_of

EXAMPLES = """\b
Examples:
  dispatch-daemon
  dispatch-daemon --port 0 --listen /ip4/0.0.0.0/tcp/4001
"""


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@click.option("--port", type=click.IntRange(0, 65535), help="Loopback port; 0 is any free one. [default: 8001]")
@click.option("--listen", multiple=True, metavar="MULTIADDR", help="Where other devices reach this one; repeatable.")
@click.version_option(VERSION, prog_name="dispatch-daemon")
def main(port: int | None, listen: Sequence[str]) -> None:
    """Be this machine's node: receive, ask, run and send. Stops on Ctrl-C or SIGTERM.

    Before this machine has signed in it serves the page alone, which leads through that (`dispatch open`), and goes on
    as its node once it has, here or by `dispatch login`.
    """
    use_utf8()
    open_closed_ones()
    try:
        folder = StateFolder.locate()
        folder.create()
        set_up_logging(folder)
        trio.run(partial(_run, folder, port, tuple(listen)))
    except* DispatchError as group:
        error = root_of(group)
        assert isinstance(error, DispatchError)
        click.echo(f"error {error.code}: {error.message}", err=True)
        if error.fix:
            click.echo(f"fix: {error.fix}", err=True)
        sys.exit(1)
    except* KeyboardInterrupt:
        sys.exit(130)


async def _run(folder: StateFolder, port: int | None, listen: Sequence[str]) -> None:
    with state_lock(folder), trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        report = partial(click.echo, err=True)
        listener = None
        if not identity.exists(folder):
            preflight.check_settings(folder)
            listener = await _set_up(folder, port, report, signals)
            if listener is None:
                return
        preflight.check(folder)
        from peer.programs.serving import served  # takes two seconds to load; a refusal should not

        async with served(folder, port=port, listen=listen or None, listener=listener, report=report) as node:
            gc.freeze()  # what is loaded stays: each full collection would look at it, for a tenth of a second
            click.echo(f"{node.context.identity.user_id} on 127.0.0.1:{node.port}, device {node.host.peer_id}")
            for address in node.host.addresses():
                click.echo(f"  {address}")
            sys.stdout.flush()
            async for _ in signals:
                break
            click.echo("stopping", err=True)


async def _set_up(
    folder: StateFolder, port: int | None, report: Callable[[str], None], signals: AsyncIterator[int]
) -> socket.socket | None:
    """Serve the set-up until this machine has signed in; return the socket that listens, None for a signal."""
    from peer.programs.setting_up import until_signed_in  # takes a second to load

    listening: list[socket.socket] = []

    def ready(at: int) -> None:
        click.echo(f"not signed in yet, on 127.0.0.1:{at}: run `dispatch open` to set up in the browser")
        sys.stdout.flush()

    async def stop(scope: trio.CancelScope) -> None:
        async for _ in signals:
            scope.cancel()
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop, nursery.cancel_scope)
        listening.append(await until_signed_in(folder, port=port, report=report, ready=ready))
        nursery.cancel_scope.cancel()
    if listening:
        return listening[0]
    click.echo("stopping", err=True)
    return None


if __name__ == "__main__":
    main()
